"""Rows that are continued are read before anything is written: in pieces, or where they were read before, by copying."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.core.errors import OutOfMemory
from app.core.types import Ints
from app.runtime.decoder_session import DecoderSession
from app.runtime.encoder_engine import is_out_of_memory
from app.runtime.kv_cache import KvCache
from app.runtime.onnx_session import RunOptions

PROMPT_TOKENS = 128
"""Of rows that are continued, so many are read in one step at most: whoever is being written waits for no long row, and a step
that reads is still busy with products, not with fetching weights. Pieces of a row end at multiples of it, whoever is there
besides: what is read of a beginning has the same bits every time, and is kept by such pieces."""


@dataclass(eq=False, slots=True)
class ContinuedRow:
    """A row that is continued, as far as it has been read."""

    token_ids: Ints
    """(tokens,)"""
    owner: str | None = None
    """Who may share what is read of its beginning; None: nobody."""
    num_unread: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_unread = len(self.token_ids)

    @property
    def num_read(self) -> int:
        return len(self.token_ids) - self.num_unread


@dataclass(slots=True)
class Reading:
    """What a step did in rows that are read."""

    num_read: int = 0
    """Tokens, of all rows together."""
    num_reused: list[int] = field(default_factory=list)
    """Tokens of each row that are there now without being read."""


def read_prompts(session: DecoderSession, prompts: Iterable[tuple[ContinuedRow, int]], options: RunOptions) -> Reading:
    """Read on in these, the first ones first, of each the whole next piece or none of it: where that ends is nobody else's.

    Args:
        session: of the decoder.
        prompts: each has something to read, and its row.
        options: of a run.

    Raises:
        OutOfMemory: memory is too short for one token.
    """
    reading, num_copied = Reading(), 0  # pages, each of which takes no longer than to read a token
    for prompt, row in prompts:
        num_reused = 0
        if reading.num_read + num_copied < PROMPT_TOKENS:
            num_reused = _reuse(session.cache, prompt, row)
            num_copied += num_reused // PROMPT_TOKENS
            piece = prompt.token_ids[prompt.num_read :][:PROMPT_TOKENS]
            if not reading.num_read or reading.num_read + num_copied + len(piece) <= PROMPT_TOKENS:
                _read_piece(session, prompt, row, piece, options)
                reading.num_read += len(piece)
        reading.num_reused.append(num_reused)
    return reading


def _reuse(cache: KvCache, prompt: ContinuedRow, row: int) -> int:
    """Put into its row what is kept of what it would read next: how many tokens."""
    if prompt.owner is None:
        return 0
    num_reused = cache.prefixes.reuse(prompt.owner, prompt.token_ids, row, prompt.num_read)
    cache.past_lengths[row] += num_reused
    prompt.num_unread -= num_reused
    return num_reused


def _read_piece(session: DecoderSession, prompt: ContinuedRow, row: int, piece: Ints, options: RunOptions) -> None:
    """Read what comes next of a row, and keep it where it is a whole page."""
    cache = session.cache
    if _read_in_parts(session, row, piece, options) > 1:
        prompt.owner = None  # what is read in parts may differ in its last bits, here and behind it
    prompt.num_unread -= len(piece)
    if prompt.owner is not None and len(piece) == cache.prefixes.page_tokens:
        cache.prefixes.keep(prompt.owner, prompt.token_ids[: prompt.num_read], row, cache.num_used)


def _read_in_parts(session: DecoderSession, row: int, token_ids: Ints, options: RunOptions) -> int:
    """Read these tokens of a row, fewer at once where memory is short: in how many parts.

    Raises:
        OutOfMemory: it is too short for one.
    """
    pending, num_parts = [token_ids], 0
    while pending:
        part = pending.pop()
        try:
            session.read(row, part, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise OutOfMemory("the engine had no memory to read one token of a single sequence") from error
            middle = len(part) // 2
            pending += [part[middle:], part[:middle]]
        else:
            session.cache.past_lengths[row] += len(part)
            num_parts += 1
    return num_parts
