"""Text polarity: how positive or negative a text is, as one number between -1 and 1."""
