"""The report on one published version: what it gets right, what it gets wrong, and how sure it is of it."""
