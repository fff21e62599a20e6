"""Feature extraction: a vector for a text, and how alike texts are by theirs."""
