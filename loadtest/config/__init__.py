"""What to test, as whom and how hard: `loadtest.toml`, variables, `.env` and options."""
