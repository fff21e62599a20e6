"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# the same examples on every machine: a red build is a change, not luck
settings.register_profile("hooper", derandomize=True, deadline=None, database=None)
settings.load_profile("hooper")
