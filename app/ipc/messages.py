"""What frames carry: rows and their results, errors, and how deployments and their queues stand. Conversions both ways."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import SubmissionResult
from app.core import errors
from app.core.errors import HooperError, InvalidInput, Overloaded, Unavailable
from app.core.manifest import Manifest
from app.core.types import Row, RowOutput
from app.runtime.providers import Provider
from app.serving.deployment import Deployment
from app.serving.registry import Standing
from app.serving.rollout.lease import LiveVersion

KINDS = {"<f2", "<f4", "<f8", "<i4", "<i8"}
"""What numpy calls the types that outputs may have: token ids are whole numbers."""


def rows_to_blob(rows: Sequence[Row]) -> tuple[list[list[Any]], bytes]:
    """Tokens and output positions of each row, names of its extra outputs, and the numbers themselves: ids, types, then
    positions, row after row."""
    numbers = array("i")
    for row in rows:
        numbers.extend(row.input_ids)
        numbers.extend(row.token_type_ids)
        numbers.extend(row.output_positions)
    return [[row.num_tokens, len(row.output_positions), *row.extra_outputs] for row in rows], numbers.tobytes()


def rows_from_blob(lengths: Sequence[Sequence[Any]], blob: bytes | bytearray) -> list[Row]:
    numbers = np.frombuffer(blob, np.intc)
    rows, start = [], 0
    for num_tokens, num_positions, *extra in lengths:
        types, positions, end = start + num_tokens, start + 2 * num_tokens, start + 2 * num_tokens + num_positions
        places = numbers[positions:end].tolist()
        rows.append(Row(numbers[start:types], numbers[types:positions], places, extra))  # type: ignore[arg-type]
        start = end
    return rows


def result_to_blob(result: SubmissionResult) -> tuple[dict[str, Any], bytes]:
    outputs, blob = outputs_to_blob(result.outputs)
    timings = [result.queue_s, result.inference_s, result.batch_rows, result.batch_tokens]
    return {"outputs": outputs, "timings": timings, "num_reused": list(result.num_reused)}, blob


def result_from_blob(body: Mapping[str, Any], blob: bytes | bytearray) -> SubmissionResult:
    result = SubmissionResult(outputs_from_blob(body["outputs"], blob), *body["timings"])
    return replace(result, num_reused=body["num_reused"])


def outputs_to_blob(of_rows: Sequence[RowOutput | HooperError]) -> tuple[list[Any], bytes]:
    """The shapes of each row's output, or its error, and the numbers themselves."""
    parts: list[bytes] = []
    outputs: list[Any] = []
    for output in of_rows:
        if isinstance(output, HooperError):
            outputs.append(error_to_json(output))
            continue
        outputs.append([[name, value.dtype.str, value.shape] for name, value in output.items()])
        parts.extend(np.ascontiguousarray(value).tobytes() for value in output.values())
    return outputs, b"".join(parts)


def outputs_from_blob(outputs: Sequence[Any], blob: bytes | bytearray) -> list[RowOutput | HooperError]:
    arrays = _Arrays(blob)
    return [
        error_from_json(output)
        if isinstance(output, dict)
        else {name: arrays.next(kind, shape) for name, kind, shape in output}
        for output in outputs
    ]


class _Arrays:
    """Arrays one after the other from one run of bytes."""

    def __init__(self, blob: bytes | bytearray) -> None:
        self._blob, self._start = blob, 0

    def next(self, kind: str, shape: Sequence[int]) -> Any:
        if kind not in KINDS:
            raise ValueError(f"outputs are of {', '.join(sorted(KINDS))}, not {kind}")
        count = int(np.prod(shape, dtype=np.int64))
        value = np.frombuffer(self._blob, kind, count, self._start).reshape(shape)
        self._start += value.nbytes
        return value


def error_to_json(error: HooperError) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": type(error).__name__, "detail": error.detail}
    if isinstance(error, Overloaded):
        body["retry_after_s"] = error.retry_after_s
    if isinstance(error, InvalidInput):
        body["detail"], body["field"] = error.reason, error.field
    return body


def error_from_json(body: Mapping[str, Any]) -> HooperError:
    """The error that was sent; one of a kind that is not known here is `Unavailable`."""
    kind = _KINDS.get(body["kind"], Unavailable)
    more = [body[name] for name in ("retry_after_s", "field") if name in body]
    error: HooperError = kind(body["detail"], *more)
    return error


def _tree(kind: type[HooperError]) -> Iterator[type[HooperError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in _tree(HooperError) if kind.__module__ == errors.__name__}


# --- deployments


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """A deployment, as far as another process needs to know it."""

    manifest: Manifest
    provider: Provider
    execution_providers: list[str]
    num_threads: int
    budget: Budget
    limit: QueueLimit
    decoder_provider: Provider | None
    decoder_execution_providers: list[str]
    tokenizers: Sequence[str]
    """The text of its tokenizer.json; of a model that writes in another vocabulary, of that one, too."""
    examples: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, deployment: Deployment) -> DeploymentInfo:
        queue = deployment.scheduler
        return cls(
            deployment.manifest,
            deployment.provider,
            deployment.execution_providers,
            deployment.num_threads,
            queue.budget,
            queue.limit,
            deployment.decoder_provider,
            deployment.decoder_execution_providers,
            deployment.tokenizers,
            deployment.examples,
        )

    def to_blob(self) -> tuple[dict[str, Any], bytes]:
        """All but the tokenizers, and these."""
        decoder = None if self.decoder_provider is None else _provider_to_json(self.decoder_provider)
        values = {"provider": _provider_to_json(self.provider), "budget": asdict(self.budget), "limit": asdict(self.limit)}
        encoded = [text.encode() for text in self.tokenizers]
        rest = {
            "execution_providers": self.execution_providers,
            "num_threads": self.num_threads,
            "decoder_provider": decoder,
            "decoder_execution_providers": self.decoder_execution_providers,
            "tokenizer_bytes": [len(text) for text in encoded],
            "examples": list(self.examples),
        }
        return {"manifest": self.manifest.model_dump(mode="json"), **values, **rest}, b"".join(encoded)

    @classmethod
    def from_blob(cls, body: Mapping[str, Any], blob: bytes | bytearray) -> DeploymentInfo:
        ends = list(accumulate(body["tokenizer_bytes"]))
        return cls(
            Manifest.model_validate(body["manifest"]),
            Provider(**body["provider"]),
            body["execution_providers"],
            body["num_threads"],
            Budget(**body["budget"]),
            QueueLimit(**body["limit"]),
            None if body["decoder_provider"] is None else Provider(**body["decoder_provider"]),
            body["decoder_execution_providers"],
            [blob[start:end].decode() for start, end in pairwise([0, *ends])],
            body["examples"],
        )


def _provider_to_json(provider: Provider) -> dict[str, Any]:
    return asdict(replace(provider, limits=None))  # these are for who opens an engine


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a deployment's queue stands."""

    is_alive: bool = True
    num_rows: int = 0
    num_tokens: int = 0
    max_batch_tokens: int = 0
    """What a batch may cost now."""
    retry_after_s: float = 1.0

    @classmethod
    def of(cls, deployment: Deployment) -> QueueState:
        queue = deployment.scheduler
        return cls(
            deployment.is_alive,
            queue.num_waiting_rows,
            queue.num_waiting_tokens,
            queue.max_batch_tokens_now,
            queue.retry_after_s(),
        )

    def to_json(self) -> list[Any]:
        return [self.is_alive, self.num_rows, self.num_tokens, self.max_batch_tokens, self.retry_after_s]


@dataclass(frozen=True, slots=True)
class EngineState:
    """How the engine process stands; sent to front ends within 20 ms after a change."""

    loads: Mapping[int, QueueState]
    """By the deployment's number."""
    all_ready: bool = False
    """Everything is loaded, and every front end has followed."""
    fatal_error: str = ""

    def to_json(self) -> list[Any]:
        loads: Sequence[Any] = [[number, *load.to_json()] for number, load in self.loads.items()]
        return [loads, self.all_ready, self.fatal_error]

    @classmethod
    def from_json(cls, body: Sequence[Any]) -> EngineState:
        loads, all_ready, fatal_error = body
        return cls({number: QueueState(*load) for number, *load in loads}, all_ready, fatal_error)


@dataclass(frozen=True, slots=True)
class DeploymentList:
    """What is loaded: versions by number, as of so many changes."""

    generation: int
    versions: Mapping[int, LiveVersion]
    is_loaded: bool
    standing: Standing = Standing()  # noqa: RUF009  # frozen

    def to_json(self) -> list[Any]:
        roles = [[number, version.role.name, version.role.share] for number, version in self.versions.items()]
        return [self.generation, roles, self.is_loaded, self.standing.to_json()]
