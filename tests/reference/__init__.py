"""The reference target against its wire contract."""
