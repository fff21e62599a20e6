"""The texts that are sent: real ones, in three profiles of length.

`texts.jsonl` holds sentences of the Stanford Sentiment Treebank and Amazon reviews of SQuADShifts (CC BY 4.0), both of the
validation splits: no shipped model was trained on them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Literal

Profile = Literal["short", "mixed", "long"]
PROFILES: tuple[Profile, ...] = ("short", "mixed", "long")
LONG_SHARE: dict[Profile, float] = {"short": 0.0, "mixed": 0.1, "long": 1.0}
"""Of the texts of a profile, how many are reviews; the rest are sentences."""
FILE = Path(__file__).parent / "texts.jsonl"
DRAWN = 2000


def profile_texts(profile: Profile) -> list[str]:
    """Texts of a profile in a random order, which is always the same."""
    texts_of: dict[str, list[str]] = {"short": [], "long": []}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts_of[row["length"]].append(row["text"])
    generator = random.Random(7)
    share = LONG_SHARE[profile]
    return [generator.choice(texts_of["long" if generator.random() < share else "short"]) for _ in range(DRAWN)]
