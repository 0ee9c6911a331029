"""Whether a server gets its room and its speed back after clients have left."""
