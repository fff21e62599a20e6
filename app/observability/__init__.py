"""Metrics and logging: a leaf just above core."""
