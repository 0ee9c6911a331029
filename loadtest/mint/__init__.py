"""A workspace-bound bearer through the real OAuth flow, and nothing left behind."""
