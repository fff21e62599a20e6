"""Texts that nearly repeat an earlier one: MinHash over shingles of characters, in time linear in the number of texts.

After Broder, On the resemblance and containment of documents (1997), and Li, Owen and Zhang, One permutation hashing (2012).
Deterministic: the hashes are fixed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

SHINGLE = 6
"""Characters, so that scripts without blanks have them, too."""
NUM_BANDS, BAND_ROWS = 8, 4
"""Texts that share 70 % of their shingles meet in one of the bands nine times in ten."""
MIN_SIMILARITY = 0.8
"""Jaccard index of the shingles of two texts that are told."""
MAX_CHARACTERS = 2_000
"""Of each text so much is compared."""
MIN_SHINGLES = 15
"""Of a shorter text one word makes the difference, and nothing is told."""
MAX_BUCKET = 8
"""Earlier texts of one band that a text is compared with: what bounds the time for texts from one template."""
_BASE, _MIX = np.uint64(1_099_511_628_211), np.uint64(0x9E3779B97F4A7C15)
_BINS = np.arange(NUM_BANDS * BAND_ROWS, dtype=np.uint64) * np.uint64(2**64 // (NUM_BANDS * BAND_ROWS))  # (hashes,)
"""Where each bin of hashes begins."""


def near_duplicates(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of a text and an earlier one that it nearly repeats, at most one for each text.

    Args:
        texts: in lower case and with single blanks, as `scripts.training.data.normalized` gives them.
    """
    shingles: list[np.ndarray] = []
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(NUM_BANDS)]
    for index, text in enumerate(texts):
        own = _shingles(text)
        shingles.append(own)
        if len(own) < MIN_SHINGLES:
            continue
        keys = _bands(own)
        candidates = sorted(
            {earlier for bucket, key in zip(buckets, keys, strict=True) for earlier in bucket[key][:MAX_BUCKET]}
        )
        match = next((earlier for earlier in candidates if _similarity(own, shingles[earlier]) >= MIN_SIMILARITY), None)
        if match is not None:
            yield index, match
        for bucket, key in zip(buckets, keys, strict=True):
            bucket[key].append(index)


def _shingles(text: str) -> np.ndarray:
    """The different hashes of the text's shingles, ascending. (shingles,)"""
    codes = np.frombuffer(text[:MAX_CHARACTERS].encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = len(codes) - SHINGLE + 1
    if length < 1:
        return np.empty(0, np.uint64)
    hashes = np.zeros(length, np.uint64)
    for offset in range(SHINGLE):  # unsigned integers of numpy wrap around, which is what a hash wants
        hashes = hashes * _BASE + codes[offset : offset + length]
    return np.unique((hashes ^ (hashes >> np.uint64(29))) * _MIX)


def _bands(shingles: np.ndarray) -> list[bytes]:
    """The bands of the text's signature: the smallest hash of each bin, or of the next one that has any."""
    places = np.searchsorted(shingles, _BINS) % len(shingles)
    signature = shingles[places]  # (hashes,)
    return [signature[start : start + BAND_ROWS].tobytes() for start in range(0, len(signature), BAND_ROWS)]


def _similarity(shingles: np.ndarray, others: np.ndarray) -> float:
    common = len(np.intersect1d(shingles, others, assume_unique=True))
    return float(common / (len(shingles) + len(others) - common))
