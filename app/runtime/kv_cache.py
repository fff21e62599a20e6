"""The cache of sequences that are being written: the keys and values of their tokens so far, and of their sources."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from app.core.errors import InvalidSettings, TooLarge
from app.core.manifest import Decoder
from app.core.sequences import SamplingParams
from app.core.types import Array, Row
from app.runtime.prefix_cache import PrefixCache

BYTES_PER_NUMBER = 4
DEFAULT_SHARE = 4
"""Where no size is set, the cache may take one part in so many of the memory that is free once the model is loaded."""


def bytes_per_row(decoder: Decoder, max_source_tokens: int) -> int:
    """What one row takes when it is full: keys and values of each layer, for each token of the sequence and of its source.

    Args:
        decoder: of the model.
        max_source_tokens: that its encoder reads, where it has one.
    """
    num_tokens = decoder.max_length + _source_capacity(decoder, max_source_tokens)
    return 2 * decoder.num_layers * decoder.num_heads * decoder.head_size * num_tokens * BYTES_PER_NUMBER


def _source_capacity(decoder: Decoder, max_source_tokens: int) -> int:
    return max_source_tokens if decoder.has_encoder else 0


def num_cache_rows(decoder: Decoder, max_source_tokens: int, max_rows: int, limit: int, available: int | None) -> int:
    """Rows of the cache: as many as a batch may hold, or as memory allows.

    Args:
        decoder, max_source_tokens: of the model.
        max_rows: of a batch.
        limit: bytes that the cache may take; 0: a quarter of those available.
        available: bytes that are free now; None: nobody knows.

    Raises:
        InvalidSettings: there is no room for a single row.
    """
    row_bytes = bytes_per_row(decoder, max_source_tokens)
    budget = limit or (max_rows * row_bytes if available is None else available // DEFAULT_SHARE)
    if budget >= row_bytes:
        return min(max_rows, budget // row_bytes)
    of = "HOOPER_CACHE_BYTES allows" if limit else f"are a quarter of the {available:,} bytes of memory that are free:"
    source = f" and {max_source_tokens} of its source" if decoder.has_encoder else ""
    raise InvalidSettings(
        f"one sequence of {decoder.max_length} tokens{source} takes {row_bytes:,} bytes of cache, and {of} {budget:,}"
    )


class CacheSlots:
    """Which of a cache's rows are spoken for. Satisfies `app.batching.engine.SlotCache`.

    Invariant: the sequences that hold a slot need, together, no more rows than there are.
    """

    def __init__(self, num_rows: int, max_tokens: int, continues_rows: bool = False) -> None:
        """
        Args:
            num_rows: of the cache.
            max_tokens: that a row holds, of what is written and what it starts with.
            continues_rows: whether sequences start with the tokens of their rows, as without an encoder.
        """
        self._num_rows, self.max_tokens = num_rows, max_tokens
        self._continues_rows = continues_rows
        self._rows_of: dict[int, int] = {}
        self._last_slot = 0
        self.num_prefix_bytes = 0
        """Of rows that are not spoken for, in which beginnings of texts are kept; whoever needs a row takes it."""

    @property
    def num_rows(self) -> int:
        return self._num_rows

    @property
    def num_free(self) -> int:
        return self.num_rows - sum(self._rows_of.values())

    def allocate(self, num_rows: int) -> int:
        self._last_slot += 1
        self._rows_of[self._last_slot] = num_rows
        return self._last_slot

    def free(self, slot: int) -> None:
        del self._rows_of[slot]

    def check(self, row: Row, sampling: SamplingParams) -> None:
        """
        Raises:
            TooLarge: the sequence could not be written if it were the only one.
        """
        if sampling.num_beams > self.num_rows:
            raise TooLarge(
                f"{sampling.num_beams} beams need as many rows of the cache, which has {self.num_rows} (HOOPER_CACHE_BYTES and"
                " HOOPER_MAX_BATCH_ROWS set how many)"
            )
        if self._continues_rows:  # up to what it has room for
            if row.num_tokens >= self.max_tokens:
                raise TooLarge(
                    f"a text of {row.num_tokens} tokens leaves no room for another among the {self.max_tokens} that the model"
                    " reads and writes"
                )
            return
        num_first = max(1, len(sampling.decoder_input_ids))
        if num_first + sampling.max_new_tokens > self.max_tokens:
            raise TooLarge(
                f"{sampling.max_new_tokens} new tokens after the {num_first} that a sequence starts with are more than the"
                f" {self.max_tokens} that the model can write"
            )


class KvCache:
    """Keys and values, (layers, 2, rows, heads, tokens, head_size), and what a step of the decoder needs to know of each row.

    Invariant: the rows in use are the first `num_used` ones, each of one slot, so that a step of all sequences is a step of one
    range of memory. Memory is taken from the system as it is first written to.
    """

    def __init__(self, decoder: Decoder, num_rows: int, max_source_tokens: int, page_tokens: int = 0) -> None:
        """
        Args:
            decoder, max_source_tokens: of the model.
            num_rows: at most so many are in use.
            page_tokens: that are kept together in rows that are not in use; 0: none are. See `PrefixCache`.

        Raises:
            InvalidSettings: the system does not promise so much memory.
        """
        shape = (decoder.num_layers, 2, num_rows, decoder.num_heads)
        try:
            self.past = np.zeros((*shape, decoder.max_length, decoder.head_size), np.float32)
            num_source_tokens = _source_capacity(decoder, max_source_tokens)
            self.cross = np.zeros((*shape, num_source_tokens, decoder.head_size), np.float32)
        except MemoryError as error:
            num_bytes = num_rows * bytes_per_row(decoder, max_source_tokens)
            raise InvalidSettings(
                f"there is no memory for a cache of {num_rows} rows, {num_bytes:,} bytes; set HOOPER_CACHE_BYTES to less"
            ) from error
        self.input_ids = np.zeros((num_rows, 1), np.int64)
        self.past_lengths = np.zeros(num_rows, np.int32)
        self.source_lengths = np.zeros(num_rows, np.int32)
        self.prefixes = PrefixCache(self.past, page_tokens)
        self._rows_of: dict[int, list[int]] = {}  # slot to its rows
        self._slot_of: list[int | None] = []  # of each row in use; None between a release and the end of it

    @property
    def num_used(self) -> int:
        return len(self._slot_of)

    def rows(self, slot: int) -> Sequence[int]:
        """The rows of a slot, in the order of its beams."""
        return self._rows_of[slot]

    def add(self, slot: int, cross: Array | None = None) -> None:
        """A row behind all others.

        Args:
            slot: has none yet.
            cross: what the encoder gave of its source: (tokens, layers x 2 x heads x head_size), key before value; None: there
                is no encoder.
        """
        row, num_tokens = self._append(slot), 0 if cross is None else len(cross)
        self.past_lengths[row], self.source_lengths[row] = 0, num_tokens
        if cross is None:
            return
        layers, _, _, heads, _, size = self.cross.shape
        by_token = cross.reshape(num_tokens, layers, 2, heads, size)
        self.cross[:, :, row, :, :num_tokens] = by_token.transpose(1, 2, 3, 0, 4)

    def widen(self, slot: int, num_rows: int) -> None:
        """Give a slot of one row so many, which hold the same."""
        (first,) = self._rows_of[slot]
        for _ in range(num_rows - 1):
            self._copy(first, self._append(slot))

    def reorder(self, slot: int, sources: Sequence[int]) -> None:
        """Let each row go on from another: the one at `sources[i]` is the i-th from now on.

        A row whose content is needed once is renamed, and only what is needed again is copied, to where it is needed no more.
        """
        before = self._rows_of[slot]
        needed = set(sources)
        unneeded = [row for index, row in enumerate(before) if index not in needed]
        after: list[int] = []
        for source in sources:
            row = before[source]
            if row in after:
                row = unneeded.pop()
                num_tokens = self.past_lengths[before[source]]
                self.past[:, :, row, :, :num_tokens] = self.past[:, :, before[source], :, :num_tokens]
            after.append(row)
        self._rows_of[slot] = after

    def clear(self, slot: int) -> None:
        """Overwrite what is no number: masked or not, it would spoil the sequence that gets the row after this one."""
        for row in self._rows_of[slot]:
            self.past[:, :, row] = 0
            self.cross[:, :, row] = 0

    def release(self, slots: Iterable[int]) -> None:
        """Take these slots' rows out of use, and move the last rows into the gaps."""
        for slot in slots:
            for row in self._rows_of.pop(slot, ()):  # none where its prefill failed before it began
                self._slot_of[row] = None
        row = 0
        while row < self.num_used:
            if self._slot_of[-1] is None:
                self._slot_of.pop()
            elif self._slot_of[row] is None:
                self._move_last_to(row)
            else:
                row += 1

    def ranges(self, rows: Collection[int]) -> list[range]:
        """These rows, each named once and in use, as ranges of neighbours."""
        if len(rows) == self.num_used > 0:
            return [range(self.num_used)]
        ranges: list[range] = []
        for row in sorted(rows):
            if ranges and ranges[-1].stop == row:
                ranges[-1] = range(ranges[-1].start, row + 1)
            else:
                ranges.append(range(row, row + 1))
        return ranges

    def _append(self, slot: int) -> int:
        row = self.num_used
        self.prefixes.give_way(row)
        self._slot_of.append(slot)
        self._rows_of.setdefault(slot, []).append(row)
        return row

    def _move_last_to(self, row: int) -> None:
        last, slot = self.num_used - 1, self._slot_of[-1]
        self._copy(last, row)
        if slot is not None:
            rows = self._rows_of[slot]
            rows[rows.index(last)] = row
        self._slot_of[row] = slot
        self._slot_of.pop()

    def _copy(self, source: int, target: int) -> None:
        num_tokens, num_source_tokens = self.past_lengths[source], self.source_lengths[source]
        self.past[:, :, target, :, :num_tokens] = self.past[:, :, source, :, :num_tokens]
        self.cross[:, :, target, :, :num_source_tokens] = self.cross[:, :, source, :, :num_source_tokens]
        for per_row in (self.input_ids, self.past_lengths, self.source_lengths):
            per_row[target] = per_row[source]
