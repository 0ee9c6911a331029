"""The first stage: a load-test user, a workspace, its data."""
