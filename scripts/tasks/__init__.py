"""What differs between tasks offline: reading records, the head and its labels, the figures."""
