"""What a report says, before it is laid out: verdict, tables, changes, facts."""
