"""Text classification: one label, any number of labels, of a text or a pair of texts."""
