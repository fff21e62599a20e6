"""Labels as they are compared: two that look the same are the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from app.core.errors import InvalidInput

INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
"""Soft hyphen, zero-width space, word joiner and byte order mark: they mean nothing in a label."""
EDGES = "\u200c\u200d\u200e\u200f"
"""Joiners and direction marks: they may mean something between two letters, and nothing at an end."""

NUM_NAMED = 10
"""Labels of the model that an error names."""


def clean_label(text: str) -> str:
    """The label in composed characters (NFC), with plain single spaces and without what nobody can see."""
    visible = unicodedata.normalize("NFC", text).translate(INVISIBLE)
    return " ".join(" ".join(visible.split()).strip(EDGES).split())


def unknown_label(labels: Sequence[str], field: str) -> InvalidInput:
    """Of a correction's label that is none of the model's."""
    more = f" and {len(labels) - NUM_NAMED} more" if len(labels) > NUM_NAMED else ""
    named = f"{', '.join(labels[:NUM_NAMED])}{more}"
    return InvalidInput(f"is none of the model's labels ({named}); with `allow_new_labels` it is kept", field)
