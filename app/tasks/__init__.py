"""Text to rows and row outputs to answers: stateless, synchronous, no I/O."""
