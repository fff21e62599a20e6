"""What breaks on purpose, and what is counted while it does."""
