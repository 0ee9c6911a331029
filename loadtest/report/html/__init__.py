"""A run or a whole history as a page with charts: one HTML file without scripts."""
