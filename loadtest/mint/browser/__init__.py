"""The sign-in and consent pages in a real Chromium."""
