"""What a disk refused: no room, no permission. Libraries tell it in ways of their own; a person is told in one sentence."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import HooperError, SetupError
from scripts.training.run_folder import RunFolder

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)
_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers end what the system said."""
_TORCH = re.compile(r"PytorchStreamWriter|unexpected pos \d+ vs")
"""What torch.save says when a file cannot be written to its end."""


def refusal(error: BaseException) -> str | None:
    """What the disk said and of which file, if that is what stopped the program: `No space left on device: runs/…`."""
    for one in _chain(error):
        number = one.errno if isinstance(one, OSError) else _number(str(one))
        if number in REFUSALS:
            name = f": {one.filename}" if isinstance(one, OSError) and one.filename else ""
            return f"{os.strerror(number)}{name}"
        if _TORCH.search(str(one)):
            return "a checkpoint could not be written to its end, as when the disk is full"
    return None


def stop_if_refused(error: Exception) -> None:
    """What a disk refuses says nothing about the model.

    Raises:
        SetupError: that is what the error comes from.
    """
    refused = refusal(error)
    if refused is not None:
        raise SetupError(f"{refused}; nothing was published") from error


@contextmanager
def refusals_told(run: RunFolder) -> Iterator[None]:
    """Whatever stops the block, nothing half-written stays in the run's folder.

    Raises:
        SetupError: the disk refused something.
    """
    try:
        yield
    except Exception as error:
        run.sweep()
        refused = None if isinstance(error, HooperError) else refusal(error)
        if refused is None:
            raise
        last = run.last_checkpoint
        kept = f"; {last} is kept, and --resume goes on from it" if last and not run.is_finished else ""
        raise SetupError(f"{refused}; nothing was published{kept}") from error


def _number(text: str) -> int | None:
    found = _RUST.search(text)
    return int(found[1]) if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
