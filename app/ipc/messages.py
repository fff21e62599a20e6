"""What frames carry: rows, their answers, errors and descriptions of deployments. Pure conversions, both ways."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from app.batching.results import SubmissionResult
from app.core import errors
from app.core.errors import HooperError, Overloaded, Unavailable
from app.core.types import Row

FLOATS = {"<f2", "<f4", "<f8"}
"""What numpy calls the types that outputs may have."""


def rows_to_blob(rows: Sequence[Row]) -> tuple[list[list[int]], bytes]:
    """Tokens and output positions of each row, and the numbers themselves: ids, types, then positions, row after row."""
    numbers = array("i")
    for row in rows:
        numbers.extend(row.input_ids)
        numbers.extend(row.token_type_ids)
        numbers.extend(row.output_positions)
    return [[row.num_tokens, len(row.output_positions)] for row in rows], numbers.tobytes()


def rows_from_blob(lengths: Sequence[Sequence[int]], blob: bytes | bytearray) -> list[Row]:
    numbers = np.frombuffer(blob, np.intc)
    rows, start = [], 0
    for num_tokens, num_positions in lengths:
        types, positions, end = start + num_tokens, start + 2 * num_tokens, start + 2 * num_tokens + num_positions
        rows.append(Row(numbers[start:types], numbers[types:positions], numbers[positions:end].tolist()))  # type: ignore[arg-type]
        start = end
    return rows


def answer_to_blob(answered: SubmissionResult) -> tuple[dict[str, Any], bytes]:
    parts: list[bytes] = []
    outputs: list[Any] = []
    for output in answered.outputs:
        if isinstance(output, HooperError):
            outputs.append(error_to_json(output))
            continue
        outputs.append([[name, value.dtype.str, value.shape] for name, value in output.items()])
        parts.extend(np.ascontiguousarray(value).tobytes() for value in output.values())
    timings = [answered.queue_s, answered.inference_s, answered.batch_rows, answered.batch_tokens]
    return {"outputs": outputs, "timings": timings}, b"".join(parts)


def answer_from_blob(body: Mapping[str, Any], blob: bytes | bytearray) -> SubmissionResult:
    arrays = _Arrays(blob)
    outputs = [
        error_from_json(one) if isinstance(one, dict) else {name: arrays.next(kind, shape) for name, kind, shape in one}
        for one in body["outputs"]
    ]
    return SubmissionResult(outputs, *body["timings"])


class _Arrays:
    """Arrays one after the other from one run of bytes."""

    def __init__(self, blob: bytes | bytearray) -> None:
        self._blob, self._start = blob, 0

    def next(self, kind: str, shape: Sequence[int]) -> Any:
        if kind not in FLOATS:
            raise ValueError(f"outputs are of {', '.join(sorted(FLOATS))}, not {kind}")
        count = int(np.prod(shape, dtype=np.int64))
        value = np.frombuffer(self._blob, kind, count, self._start).reshape(shape)
        self._start += value.nbytes
        return value


def error_to_json(error: HooperError) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": type(error).__name__, "detail": error.detail}
    if isinstance(error, Overloaded):
        body["retry_after_s"] = error.retry_after_s
    return body


def error_from_json(body: Mapping[str, Any]) -> HooperError:
    """The error that was sent; one of a kind that is not known here is `Unavailable`."""
    kind = _KINDS.get(body["kind"], Unavailable)
    made: HooperError = kind(body["detail"], body["retry_after_s"]) if issubclass(kind, Overloaded) else kind(body["detail"])
    return made


def _tree(kind: type[HooperError]) -> Iterator[type[HooperError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


_KINDS: dict[str, Any] = {one.__name__: one for one in _tree(HooperError) if one.__module__ == errors.__name__}
