"""One file per task and per protocol."""
