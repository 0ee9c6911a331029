"""The content of a report, without layout: verdict, tables, changes, facts."""
