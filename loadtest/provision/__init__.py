"""The first stage: create the load-test user, its workspace and its data."""
