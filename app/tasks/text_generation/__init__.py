"""A text that is continued."""
