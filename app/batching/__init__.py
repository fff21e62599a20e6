"""Who runs together, and who gets told."""
