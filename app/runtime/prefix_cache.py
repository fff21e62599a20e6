"""Beginnings of texts that were read before: their keys and values, kept in rows of the cache that no sequence needs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from app.core.types import Array, Ints

PREFIX_SHARE = 4
"""One part in so many of the cache may be kept."""

Key = tuple[str, bytes]
"""Whose a page is, and all tokens up to its end: compared, not hashed alone, so that no other text is ever taken for it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A place for the keys and values of so many tokens of one row."""

    row: int
    start: int


class PrefixCache:
    """What sequences with the same beginning read once: pages of `page_tokens` tokens, each with those before it.

    Pages lie in the cache's own last rows, which sequences take last: they cost no memory beside the cache, and are gone as
    soon as a sequence takes their row. A page is read as one piece, with as many tokens before it wherever it is used: what is
    copied are the bits that would be computed.

    Invariant: no page lies in a row that is in use.
    """

    def __init__(self, past: Array, page_tokens: int) -> None:
        """
        Args:
            past: (layers, 2, rows, heads, tokens, head_size), of the cache.
            page_tokens: that are read at once; 0: nothing is kept.
        """
        self._past, self.page_tokens = past, page_tokens
        starts = range(0, past.shape[4] - page_tokens + 1, page_tokens) if page_tokens else ()
        pages = [Page(row, start) for row in reversed(range(past.shape[2])) for start in starts]
        self._pages = pages[: len(pages) // PREFIX_SHARE]
        self._kept: OrderedDict[Key, Page] = OrderedDict()  # the least recently used first
        self._page_bytes = past[:, :, 0, :, :page_tokens].size * past.itemsize
        self.num_evicted = 0

    @property
    def num_bytes(self) -> int:
        """What is kept."""
        return len(self._kept) * self._page_bytes

    def reuse(self, owner: str, token_ids: Ints, row: int, start: int) -> int:
        """Put into a row what is kept of these tokens.

        Args:
            owner: whose pages may be used.
            token_ids: (tokens,), all that the row is to hold.
            row: is in use, and holds the first `start` of them, whole pages.
            start: where it goes on.

        Returns:
            how many tokens it holds more now; at least one is left to be read.
        """
        stop, size = start, self.page_tokens
        while stop + size < len(token_ids) and (page := self._kept.get(_key(owner, token_ids[: stop + size]))):
            self._past[:, :, row, :, stop : stop + size] = self._past[:, :, page.row, :, page.start : page.start + size]
            stop += size
        if stop > start:
            self._touch(owner, token_ids[:stop])
        return stop - start

    def keep(self, owner: str, token_ids: Ints, row: int, num_used: int) -> None:
        """Keep the last page of what a row holds, where those before it are kept, and it is numbers.

        Args:
            owner: whose it is.
            token_ids: (tokens,), all that the row holds, whole pages.
            row: is in use.
            num_used: rows that are in use, the first ones.
        """
        key, size = _key(owner, token_ids), self.page_tokens
        before = token_ids[:-size]
        if key in self._kept or (len(before) and _key(owner, before) not in self._kept):
            return
        content = self._past[:, :, row, :, len(before) : len(token_ids)]
        self._touch(owner, before)
        page = self._free_page(num_used, _key(owner, before)) if np.isfinite(content).all() else None
        if page is not None:
            self._past[:, :, page.row, :, page.start : page.start + size] = content
            self._kept[key] = page
            self._touch(owner, before)

    def give_way(self, row: int) -> None:
        """A sequence takes this row: forget what lies there."""
        gone = [key for key, page in self._kept.items() if page.row == row]
        for key in gone:
            del self._kept[key]
        self.num_evicted += len(gone)

    def _free_page(self, num_used: int, before: Key) -> Page | None:
        """A page that is free, or is from now on; None: only what ends `before` could go, which is needed to come so far."""
        taken = set(self._kept.values())
        free = next((page for page in self._pages if page.row >= num_used and page not in taken), None)
        if free is None and next(iter(self._kept), before) != before:
            _, free = self._kept.popitem(last=False)
            self.num_evicted += 1
        return free

    def _touch(self, owner: str, token_ids: Ints) -> None:
        """Each page after those that go on from it: nothing is kept longer than what it goes on from."""
        for stop in range(len(token_ids), 0, -self.page_tokens):
            key = _key(owner, token_ids[:stop])
            if key in self._kept:
                self._kept.move_to_end(key)


def _key(owner: str, token_ids: Ints) -> Key:
    return owner, token_ids.tobytes()
