"""SQuAD's official figures: exact match and F1 of answer texts, for v1.1 and v2.0.

Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016) and "Know What You Don't Know"
(2018), and the evaluation scripts published with them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra whitespace."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, truths: Sequence[str]) -> float:
    """1 where the prediction reads like one of the truths, else 0. No truths at all: the right answer is the empty one."""
    return max(float(normalized(prediction) == normalized(truth)) for truth in truths or [""])


def f1(prediction: str, truths: Sequence[str]) -> float:
    """Best harmonic mean of word precision and recall over the truths; no truths: 1 for the empty answer."""
    return max(_f1(prediction, truth) for truth in truths or [""])


def _f1(prediction: str, truth: str) -> float:
    guessed, wanted = normalized(prediction).split(), normalized(truth).split()
    if not guessed or not wanted:  # as the v2.0 script: an empty answer only matches an empty one
        return float(guessed == wanted)
    shared = sum((Counter(guessed) & Counter(wanted)).values())
    return 2 * shared / (len(guessed) + len(wanted))
