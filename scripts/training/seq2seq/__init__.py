"""Training of models that write: an encoder reads the source, a decoder writes the target, token by token."""
