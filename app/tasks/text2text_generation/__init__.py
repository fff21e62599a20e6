"""A text written from another."""
