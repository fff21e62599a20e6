"""The JSON of a request is measured before it is parsed, and counted before anything is made of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from app.api.json_body import MAX_DEPTH, TOO_DEEP, Bounds, JsonRoute, Shape, read_json
from app.core.errors import InvalidInput
from app.tasks.schemas import read_as
from tests.support.requests import Service, check_problem
from tests.support.tiny_model import MAX_TOKENS


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


texts = st.text() | st.sampled_from(["[[[", "}{", '"[', "\\", '\\"{', '"'])
values = st.recursive(
    texts | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=20,
)


def counted(value: Any) -> tuple[int, int, int]:
    """Commas, fields, and lists and objects."""
    inner = list(value.values() if isinstance(value, dict) else value) if isinstance(value, list | dict) else []
    own = (max(0, len(inner) - 1), len(inner) if isinstance(value, dict) else 0, int(isinstance(value, list | dict)))
    return tuple(map(sum, zip(own, *map(counted, inner), strict=True)))  # type: ignore[return-value]


@given(value=values, ensure_ascii=st.booleans())
def test_the_shape_is_that_of_the_value_whatever_its_strings_hold(value: Any, ensure_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    assert Shape.of(body) == Shape(*counted(value), depth_of(value))


@given(st.binary() | st.text(alphabet='[]{}",\\ a').map(str.encode))
def test_what_is_no_json_is_measured_without_harm(body: bytes) -> None:
    assert 0 <= Shape.of(body).depth <= len(body)


def nested(levels: int) -> bytes:
    """A request of so many levels, the outer object among them."""
    return b'{"inputs": "good", "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


async def test_so_deep_and_not_one_level_deeper(service: Service) -> None:
    assert "x: is not a field" in check_problem(await service.send(nested(MAX_DEPTH)), 422, "invalid_input")
    for levels in (MAX_DEPTH + 1, 1000, 500_000):
        response = await service.send(nested(levels))
        assert check_problem(response, 422, "invalid_input") == f"body: {TOO_DEEP}"


async def test_brackets_in_a_text_are_text(service: Service) -> None:
    assert (await service.classify("[" * 1000 + '\\"{' * 100)).status_code == 200


@pytest.mark.parametrize("path", ["/models/tiny", "/predict", "/v2/models/tiny/infer", "/v1/explain"])
async def test_every_protocol_measures_depth(service: Service, path: str) -> None:
    response = await service.send(nested(10_000), path=path)
    assert response.status_code == 422
    assert TOO_DEEP in response.text


async def test_bytes_behind_the_json_have_no_depth(service: Service) -> None:
    text = b"[" * MAX_TOKENS * 10
    size = len(text) + 4
    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}]}
    head = json.dumps(asked).encode()
    body = head + len(text).to_bytes(4, "little") + text
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    assert (await service.send(body, headers, "/v2/models/tiny/infer")).status_code == 200


# --- what is said of a body


SAID = [
    (b'{"inputs": 1e999}', {"inputs": math.inf}),
    (b'{"inputs": "a", "inputs": "b"}', {"inputs": "b"}),
    ('{"inputs": "\u00e9"}'.encode(), {"inputs": "\u00e9"}),
    ('{"inputs": "\u00e9"}'.encode("utf-16"), {"inputs": "\u00e9"}),
    (b'\xef\xbb\xbf{"inputs": "a"}', {"inputs": "a"}),
    (b'{"inputs": "\\ud800"}', {"inputs": "\ud800"}),
    (b"1" * 100, int("1" * 100)),
]
REFUSED = [
    (b"{", "the body is not valid JSON: Expecting property name enclosed in double quotes"),
    (b'{"inputs": "\xff"}', "the body is not valid JSON in UTF-8"),
    (b"1" * 101, "the body is not valid JSON: a number has 101 digits, more than 100"),
    (b"1" * 1_000_000, "the body is not valid JSON: a number has 1000000 digits, more than 100"),
    (b"-" + b"1" * 5000, "the body is not valid JSON: a number has 5001 digits, more than 100"),
    (json.dumps({str(number): 0 for number in range(65)}).encode(), "body: an object has 65 fields; at most 64 are read"),
    (json.dumps({str(number): 0 for number in range(5000)}).encode(), "body: 5000 fields are too many; at most 4096"),
    (b"[" + b"0," * 70_000 + b"0]", "body: 70000 values are too many; at most 65536"),
    (b"[" + b"{}," * 2000 + b"0]", "body: 2001 lists and objects are too many; at most 1024"),
    (("[" + "\u2222," * 70_000 + "0]").encode("utf-16"), "body: 70000 values are too many; at most 65536"),
    (("[" + "0," * 70_000 + "0]").encode("utf-16"), "body: 70000 values are too many; at most 65536"),
    (b'{"inputs": [' + b"0," * 256 + b"0]}", "inputs: 257 items are too many; at most 256"),
]


@pytest.mark.parametrize(("body", "value"), SAID)
async def test_a_body_says_what_its_json_says(body: bytes, value: Any) -> None:
    assert await read_json(body, 256) == value


@pytest.mark.parametrize(("body", "detail"), REFUSED, ids=[detail for _, detail in REFUSED])
async def test_what_no_request_could_be_is_refused_by_counting(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await read_json(body, 256)
    assert refused.value.detail == detail


@pytest.mark.parametrize("max_items", [1, 256, 65_536])
async def test_as_many_items_as_are_allowed_are_read_whatever_they_need(max_items: int) -> None:
    pair = {"question": "a,b: [c] {d}", "context": 'e "f", g\\'}
    for item in (pair, "a", {"text": "a", "text_pair": "b", "labels": ["c"]}):
        body = json.dumps({"inputs": [item] * max_items}).encode()
        assert len((await read_json(body, max_items))["inputs"]) == max_items


def test_the_marks_within_a_text_are_not_counted() -> None:
    body = json.dumps({"inputs": ", : [ { \\ " * 100_000}).encode()
    assert not Bounds(256).are_certain(body)
    Bounds(256).check(Shape.of(body))


# --- bodies that would cost more than they are worth, to every route


LIMIT = 200_000
FIELDS = {f"field{number}": 0 for number in range(60)}
HOSTILE: dict[str, Any] = {
    "numbers": {"inputs": [0] * 6_000},
    "nulls": {"inputs": [None] * 6_000},
    "objects": {"inputs": [{}] * 6_000},
    "lists": {"inputs": [[]] * 6_000},
    "texts": {"inputs": [""] * 6_000},
    "one list too long": {"inputs": ["a"] * 257},
    "a list in a list": {"inputs": [[0] * 6_000]},
    "a list for a text": {"inputs": {"text": [0] * 6_000, "question": [0] * 6_000}},
    "no object": [0] * 6_000,
    "thousands of fields": {"inputs": "a", **{str(number): 0 for number in range(4000)}},
    "many fields": {"inputs": "a", **FIELDS},
    "items of many fields": {"inputs": [FIELDS] * 60},
    "parameters of thousands of fields": {"inputs": "a", "parameters": {str(number): 0 for number in range(4000)}},
    "parameters of many fields": {"inputs": "a", "parameters": FIELDS, "options": FIELDS},
    "tensors": {"inputs": [{}] * 256},
    "a tensor of numbers": {"inputs": [{"name": "text", "shape": [6_000], "datatype": "BYTES", "data": [0] * 6_000}]},
    "a tensor of lists": {"inputs": [{"name": "text", "shape": [9, 1], "datatype": "BYTES", "data": [[0] * 500] * 100}]},
    "a shape": {
        "inputs": [{"name": "text", "shape": ["a"] * 6_000, "datatype": "BYTES", "data": ["a"]}],
        "outputs": [0] * 9000,
    },
    "wishes": {"inputs": [], "parameters": {"stop": ["a"] * 6_000}, "outputs": [{"name": 0}] * 200},
    "labels": {"inputs": [{"text": "a", "labels": [0] * 1000}] * 60},
    "sentences": {"inputs": [{"text": "a", "sentences": [0] * 1000}] * 60},
    "a long name": {"inputs": "a", "x" * 190_000: 0},
    "a long tensor's name": {"inputs": [{"name": "x" * 190_000, "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
    "a number of 90 digits": {"inputs": [{"name": "text", "shape": [10**90], "datatype": "BYTES", "data": ["a"]}]},
}
RAW: dict[str, bytes] = {
    "deep": b'{"inputs": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "not so deep": b'{"inputs": ' + b"[" * 63 + b"0" + b"]" * 63 + b"}",
    "duplicates": b"{" + b'"inputs": 0,' * 4000 + b'"inputs": 0}',
    "no number": b'{"inputs": [' + b"NaN," * 255 + b"Infinity]}",
    "a huge number": b'{"inputs": ' + b"1" * 190_000 + b"}",
    "huge numbers": b'{"inputs": [' + b"1" * 5000 + b"," + b"1" * 5000 + b"]}",
    "half": b'{"inputs": [' + b"0," * 6_000,
}


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in HOSTILE.items()} | RAW


class Work:
    """What pydantic was given to say, and what it said."""

    num_errors = 0
    longest = 0


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Counts every error that is made of a body, wherever it is told: in the answer or in an item's place."""
    counted = Work()

    def counting(real: Any) -> Any:
        def count(errors: Any) -> Any:
            counted.num_errors += len(errors)
            return real(errors)

        return count

    for place in (
        "app.api.errors.describe_validation",
        "app.api.protocols.native.describe_validation",
        "app.api.protocols.tensors.describe_validation",
    ):
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(place, counting(getattr(__import__(module, fromlist=[name]), name)))

    def reading(kind: type[BaseModel], value: Any, place: Callable[[str], str]) -> BaseModel:
        try:
            kind.model_validate(value)
        except ValidationError as error:
            counted.num_errors += error.error_count()
        return read_as(kind, value, place)

    monkeypatch.setattr("app.api.protocols.open_inference.read_as", reading)
    return counted


def posts(service: Service, tasks: list[str]) -> Iterator[tuple[str, str]]:
    """Every path that takes a body, with its parameters filled in: those of models for each of these tasks."""
    names = {"{version}": "1"}
    for path, methods in service.app.openapi()["paths"].items():
        if "post" in methods:
            for task in tasks if "{name}" in path else ("",):
                filled = path.replace("{name}", task)
                for name, value in names.items():
                    filled = filled.replace(name, value)
                yield path, filled


MOST_ERRORS = 3 * 64
"""As many unknown fields as an object may have, for each form that it could have had: a pair, a question
with its context, a sentence with those it is compared with."""


@pytest.mark.parametrize(
    ("tasks", "part"),
    [
        pytest.param(["text-classification"], 8, id="an eighth"),
        pytest.param(["text-classification", "question-answering", "summarization"], 1, marks=pytest.mark.slow, id="all"),
    ],
)
async def test_a_hostile_body_costs_no_route_more_than_a_few_errors_and_is_answered_in_a_few_words(
    every_task: Service, hostile: dict[str, bytes], work: Work, tasks: list[str], part: int
) -> None:
    """Every route is sent one body in `part`, the next route the ones beside them, so that each body reaches some routes."""
    asked = 0
    for place, (path, filled) in enumerate(posts(every_task, tasks)):
        if path.startswith("/v1/models"):
            continue  # asks for an admin's key first; see below
        for name, body in list(hostile.items())[place % part :: part]:
            work.num_errors = 0
            response = await every_task.send(body, path=filled)
            told = f"{filled}: {name}: {response.text[:300]}"
            # of a native list, an item that is wrong fails alone
            assert response.status_code in (400, 404, 413, 422, 424) or '"error":{' in response.text, told
            assert len(response.content) < 4000 or response.status_code == 200, told
            assert work.num_errors <= MOST_ERRORS, told
            asked += 1
    assert asked > 8 * len(hostile) // part


async def test_administration_is_no_exception(start: Any, hostile: dict[str, bytes], work: Work) -> None:
    key = {"X-API-Key": "admin"}
    async with start(admin_key_hashes=hashlib.sha256(b"admin").hexdigest()) as service:
        for action in ("load", "promote", "unload"):
            for name, body in hostile.items():
                work.num_errors = 0
                response = await service.send(body, key, f"/v1/models/nobody/{action}")
                assert response.status_code in (404, 422), name
                assert len(response.content) < 4000
                assert work.num_errors <= MOST_ERRORS


async def test_of_a_million_items_none_is_looked_at(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(*_: Any) -> None:
        raise AssertionError("it was validated")

    monkeypatch.setattr("app.tasks.schemas.Request.model_validate", looked_at)
    monkeypatch.setattr("app.api.json_body._parsed", looked_at)
    for path in ("/v1/classify", "/models/tiny", "/predict", "/v2/models/tiny/infer", "/v1/explain", "/v1/feedback"):
        response = await service.send(b'{"inputs":[' + b"0," * 999_999 + b"0]}", path=path)
        assert response.status_code in (413, 422)
        assert "too many" in response.text


async def test_wrong_items_are_told_each_in_its_place_however_many_there_are(service: Service) -> None:
    inputs: list[Any] = ["good", 5, {"text": "bad", "label": 1}, FIELDS] * 60
    response = await service.classify(inputs)
    assert response.status_code == 200
    alone = [(await service.classify([item, "good"])).json()["results"][0] for item in inputs[:4]]
    told = response.json()["results"]
    assert len(told) == len(inputs)
    assert told[1::4] == [alone[1]] * 60
    assert told[2::4] == [alone[2]] * 60
    assert told[3::4] == [alone[3]] * 60
    assert "labels" in told[0]


def test_every_route_with_a_body_of_json_is_given_what_was_read(service: Service) -> None:
    for route in service.app.routes:
        for inner in getattr(getattr(route, "original_router", None), "routes", [route]):
            if getattr(inner, "body_field", None) is not None:
                assert isinstance(inner, JsonRoute) or hasattr(inner.endpoint, "answers"), inner
