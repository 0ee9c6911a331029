"""The OAuth protocol: from discovery to a verified bearer, and its revocation."""
