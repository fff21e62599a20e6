"""Messages: rows, answers and errors mean the same on both sides of the connection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import SubmissionResult
from app.core import errors
from app.core.errors import EngineFailed, HooperError, InvalidInput, Overloaded, RateLimited, Unavailable, UnknownModel
from app.core.manifest import read_manifest
from app.core.types import Row
from app.ipc.messages import (
    DeploymentInfo,
    error_from_json,
    error_to_json,
    result_from_blob,
    result_to_blob,
    rows_from_blob,
    rows_to_blob,
)
from app.runtime.layout import Limits
from app.runtime.providers import Provider


def test_rows_come_out_with_their_tokens_types_and_output_positions() -> None:
    rows = [Row([101, 7, 102], [0, 0, 0]), Row([101, 30_521, 9, 102], [0, 1, 1, 1], (0, 2)), Row((1,), (0,), (), ("a", "b"))]
    came = rows_from_blob(*rows_to_blob(rows))
    for row, other in zip(rows, came, strict=True):
        assert list(other.input_ids) == list(row.input_ids)
        assert list(other.token_type_ids) == list(row.token_type_ids)
        assert list(other.output_positions) == list(row.output_positions)
        assert tuple(other.extra_outputs) == tuple(row.extra_outputs)
        assert other.num_tokens == row.num_tokens


def test_an_answer_comes_out_with_arrays_of_every_shape_errors_in_their_places_and_timings() -> None:
    outputs = [
        {"logits": np.array([0.25, -1.5], np.float32)},
        EngineFailed("a row's numbers are not finite"),
        {"start": np.arange(6, dtype=np.float32).reshape(3, 2), "end": np.zeros((0, 4), np.float32)},
        {"logits": np.arange(8, dtype=np.float32).reshape(4, 2).T},  # not contiguous
    ]
    came = result_from_blob(*result_to_blob(SubmissionResult(outputs, 0.5, 0.25, 7, 99)))
    assert (came.queue_s, came.inference_s, came.batch_rows, came.batch_tokens) == (0.5, 0.25, 7, 99)
    for output, other in zip(outputs, came.outputs, strict=True):
        if isinstance(output, HooperError):
            assert (type(other), str(other)) == (type(output), str(output))
            continue
        assert isinstance(other, dict)
        assert list(other) == list(output)
        for name, value in output.items():
            np.testing.assert_array_equal(other[name], value)
            assert other[name].dtype == value.dtype


def test_a_decoder_may_write_into_the_arrays_as_into_those_of_an_engine_beside_it() -> None:
    body, blob = result_to_blob(SubmissionResult([{"logits": np.zeros(2, np.float32)}], 0, 0))
    output = result_from_blob(body, bytearray(blob)).outputs[0]
    assert isinstance(output, dict)
    output["logits"][0] = 1.0


@pytest.mark.parametrize("kind", ["|O", "<i2", "<U3", ">f4", "nonsense"])
def test_an_array_of_anything_but_numbers_that_graphs_give_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="outputs are of <f2, <f4, <f8, <i4, <i8, not"):
        result_from_blob({"outputs": [[["logits", kind, [1]]]], "timings": [0, 0, 0]}, b"12345678")


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, HooperError) and not issubclass(kind, Overloaded)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_kind_and_its_sentence(kind: type[HooperError]) -> None:
    came = error_from_json(error_to_json(kind("so it is")))
    assert (type(came), came.detail, came.type) == (kind, "so it is", kind.type)


@pytest.mark.parametrize("kind", [Overloaded, RateLimited])
def test_an_overloaded_queue_keeps_the_seconds_to_wait(kind: type[Overloaded]) -> None:
    came = error_from_json(error_to_json(kind("full", 3.5)))
    assert isinstance(came, kind)
    assert came.retry_after_s == 3.5


def test_an_invalid_input_keeps_the_whole_sentence_and_the_field() -> None:
    came = error_from_json(error_to_json(InvalidInput("must not be empty", "text")))
    assert isinstance(came, InvalidInput)
    assert (came.detail, came.field, came.reason) == ("text: must not be empty", "text", "must not be empty")


def test_an_error_that_is_not_known_here_is_one_that_may_pass() -> None:
    came = error_from_json({"kind": "BrokenFrame", "detail": "so it is"})
    assert type(came) is Unavailable
    assert not isinstance(came, UnknownModel)


def test_a_description_comes_back_but_for_the_limits_of_tensors(models: Path) -> None:
    provider = Provider("cuda", "fp32", "a GPU answers", captures=True, limits=Limits(512, 1024, 64))
    budget, limit = Budget(1024, 64, "packed"), QueueLimit(1, 2)
    manifest, decoder = read_manifest(models / "tiny" / "1"), Provider("cpu", "int8", "it writes")
    cuda, cpu, texts = ["CUDAExecutionProvider"], ["CPUExecutionProvider"], ["{}", '{"ä": "ö"}']
    info = DeploymentInfo(manifest, provider, cuda, 2, budget, limit, decoder, cpu, texts, [{"text": "a"}])
    body, blob = info.to_blob()
    back = DeploymentInfo.from_blob(json.loads(json.dumps(body)), bytearray(blob))
    assert back == replace(info, provider=replace(provider, limits=None))
