"""Models of transformers that read a text with an encoder and write another with a decoder."""
