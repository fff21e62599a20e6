"""Several processes as one service: a supervisor, an engine process and its front ends. Linux alone."""
