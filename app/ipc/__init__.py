"""Front ends and the engine process: what one says to the other, over a Unix socket."""
