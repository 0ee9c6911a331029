"""What every stage builds on: files, HTTP, the console, secrets, time limits."""
