"""Exit codes of the service and of every command, as `hooper --help` lists them."""

EXIT_FAILED = 1
"""A part of the input could not be answered, a check failed, or something crashed."""
EXIT_SETUP = 2
"""It could not start as it was called or configured."""
EXIT_GAVE_UP = 3
"""Processes of the service died again and again."""
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""Whoever read the output has closed it, as `| head` does."""
