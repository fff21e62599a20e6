"""A folder with an `__init__`, so that fixtures of the scope `package` end with its last test, and not with the session."""
