"""Get a bearer for one workspace through the real OAuth flow, and revoke it."""
