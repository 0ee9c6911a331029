"""GitHub: its API, Actions secrets, and the commands of a workflow run."""
