"""One run in words and tables: for the terminal, and as `report.md` in the run folder."""
