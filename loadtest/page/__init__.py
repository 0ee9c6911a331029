"""A run, or a whole history, as a page with charts: one HTML file, without scripts."""

from loadtest.page.rendering import render_history_page, render_page, write_page

__all__ = ["render_history_page", "render_page", "write_page"]
