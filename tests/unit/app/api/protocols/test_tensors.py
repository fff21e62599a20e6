"""Bodies of the Open Inference Protocol: tensors in the JSON and behind it, and everything that can be wrong with them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.protocols.open_inference_schemas import InferResponse, RequestInput
from app.api.protocols.tensors import Tensor, read_request, read_texts, write_response
from app.core.errors import HooperError, InvalidInput, TooManyItems
from app.tasks.extractive_summarization import protocols as summaries
from app.tasks.question_answering import protocols as answers
from app.tasks.text_classification import protocols as labels

CLASSIFIER, READER = labels.OPEN_INFERENCE, answers.OPEN_INFERENCE


def packed(*texts: str | bytes) -> bytes:
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(encoding)) + encoding for encoding in encoded)


def given_input(name: str = "text", *data: Any, **fields: Any) -> RequestInput:
    named = {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data)}
    return RequestInput.model_validate(named | fields)


def behind(name: str, count: int, size: int) -> RequestInput:
    return given_input(name, shape=[count], data=None, parameters={"binary_data_size": size})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_texts_are_the_same_whichever_way_they_travel(texts: list[str]) -> None:
    tail = packed(*texts)
    assert read_texts([given_input("text", *texts)], b"", CLASSIFIER) == {"text": texts}
    assert read_texts([behind("text", len(texts), len(tail))], tail, CLASSIFIER) == {"text": texts}


def test_bytes_belong_to_the_inputs_in_their_order() -> None:
    one, two = packed("when", "who"), packed("ü", "")
    inputs = [behind("context", 2, len(two)), behind("question", 2, len(one))]
    assert read_texts(inputs, two + one, READER) == {"context": ["ü", ""], "question": ["when", "who"]}


def test_one_input_may_travel_in_the_json_and_another_behind_it() -> None:
    tail = packed("b")
    inputs = [given_input("question", "a"), behind("context", 1, len(tail))]
    assert read_texts(inputs, tail, READER) == {"question": ["a"], "context": ["b"]}


@pytest.mark.parametrize("data", [["a", "b"], [["a"], ["b"]], [["a", "b"]]])
def test_elements_may_be_nested_or_in_one_list(data: list[Any]) -> None:
    for shape in ([2], [2, 1]):
        assert read_texts([given_input("text", shape=shape, data=data)], b"", CLASSIFIER) == {"text": ["a", "b"]}


INVALID: list[tuple[str, list[RequestInput], bytes]] = [
    ("inputs: 'words' is not an input of this model, which has text, text_pair", [given_input("words", "a")], b""),
    ("inputs.text: is there twice", [given_input("text", "a"), given_input("text", "a")], b""),
    ("inputs.text: is required", [given_input("text_pair", "a")], b""),
    ("inputs.text: is required", [], b""),
    (
        "need one row per item in each: text has 1, text_pair has 2",
        [given_input("text", "a"), given_input("text_pair", "a", "b")],
        b"",
    ),
    ("inputs.text: datatype is FP32, should be BYTES", [given_input("text", 1.0, datatype="FP32")], b""),
    ("inputs.text: shape is [], should be [n] or [n, 1]", [given_input("text", "a", shape=[])], b""),
    ("inputs.text: shape is [1, 2], should be [n] or [n, 1]", [given_input("text", "a", "b", shape=[1, 2])], b""),
    ("inputs.text: has 1 elements, but its shape is [2]", [given_input("text", "a", shape=[2])], b""),
    ("inputs.text: must not be empty", [given_input("text", shape=[0])], b""),
    ("inputs.text.1: should be a string", [given_input("text", "a", 5)], b""),
    ("inputs.text: has no data", [given_input("text", data=None)], b""),
    ("has data both in the JSON and after it", [given_input("text", "a", parameters={"binary_data_size": 5})], packed("a")),
    ("inputs.text: binary_data_size is 6, but 5 bytes are left", [behind("text", 1, 6)], packed("a")),
    ("inputs: 1 bytes after the JSON belong to no input", [behind("text", 1, 5)], packed("a") + b"x"),
    ("inputs: 5 bytes after the JSON belong to no input", [given_input("text", "a")], packed("a")),
    ("inputs.text.0: its bytes end within a text", [behind("text", 1, 4)], packed("a")[:4]),
    ("inputs.text.1: its bytes end within a text", [behind("text", 2, 7)], packed("a", "b")[:7]),
    ("inputs.text.0: its bytes end within a text", [behind("text", 1, 5)], b"\xff\xff\xff\xffa"),
    ("inputs.text.1: is not UTF-8", [behind("text", 2, 10)], packed("a", b"\xff")),
]  # fmt: skip


@pytest.mark.parametrize(("message", "inputs", "tail"), INVALID, ids=[entry[0] for entry in INVALID])
def test_what_is_wrong_with_a_tensor_is_named(message: str, inputs: list[RequestInput], tail: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_texts(inputs, tail, CLASSIFIER)
    assert message in caught.value.detail


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 3))
def test_no_bytes_whatever_raise_anything_but_an_error_of_the_callers(tail: bytes, size: int, count: int) -> None:
    try:
        texts = read_texts([behind("text", count, size)], tail, CLASSIFIER)["text"]
    except HooperError:
        return
    assert packed(*texts) == tail


# --- bodies


async def test_the_header_says_where_the_json_ends() -> None:
    head = json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]}).encode()
    request, tail = await read_request(head + b"tail", len(head), 9)
    assert (request.inputs[0].name, tail) == ("text", b"tail")
    assert (await read_request(head, None, 9))[1] == b""
    for length in (len(head) + 5, len(head) - 1, len(head) + 2, 0):
        with pytest.raises(InvalidInput):
            await read_request(head + b"tail", length, 9)


async def test_a_wrong_field_of_the_json_is_named() -> None:
    for body, message in (
        (b'{"inputs": 5}', "inputs: should be a valid array"),
        (b'{"inputs": [], "x": 1}', "x: is not a field that is known here"),
        (b'{"inputs": [{"name": "text", "shape": [-1], "datatype": "BYTES"}]}', "inputs.0.shape.0: should be greater"),
        (b'{"inputs": [{"name": "t", "shape": [1], "datatype": "", "parameters": {"classification": 1}}]}', "parameters: cla"),
        (b'{"inputs": ', "the body is not valid JSON"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            await read_request(body, None, 9)
        assert message in caught.value.detail


@pytest.mark.parametrize(("data", "shape"), [(["a"] * 10, [1]), ([["a"] * 5, ["a"] * 5], [2]), (None, [10]), ([0] * 10, [0])])
async def test_more_elements_than_a_request_may_hold_are_not_read(data: list[Any] | None, shape: list[int]) -> None:
    tensor = {"name": "t", "shape": shape, "datatype": "BYTES"} | ({} if data is None else {"data": data})
    with pytest.raises(TooManyItems, match="10 items are too many; at most 9"):
        await read_request(json.dumps({"inputs": [tensor]}).encode(), None, 9)


def test_of_bytes_no_more_texts_are_made_than_the_shape_says() -> None:
    tail = packed("") * 500_000
    tensor = behind("text", 2, len(tail))
    with pytest.raises(InvalidInput, match="has 3 elements"):
        read_texts([tensor], tail, summaries.OPEN_INFERENCE)


ANSWER = InferResponse(model_name="m", model_version="1", parameters={}, outputs=[])
OUTPUTS = {
    "label": Tensor("BYTES", [1, 2], ["ü", ""]),
    "score": Tensor("FP32", [1, 2], [0.5, 0.25]),
    "start": Tensor("INT64", [2], [-1, 2**40]),
}


def test_a_response_in_json_holds_all_elements_in_one_list() -> None:
    body, head = write_response(ANSWER, OUTPUTS, [])
    assert head is None
    told = json.loads(body)["outputs"]
    assert [entry["data"] for entry in told] == [["ü", ""], [0.5, 0.25], [-1, 2**40]]
    assert [entry["shape"] for entry in told] == [[1, 2], [1, 2], [2]]
    assert "parameters" not in told[0]
    assert "id" not in json.loads(body)


def test_a_response_with_bytes_says_how_many_belong_to_which_output() -> None:
    body, head = write_response(ANSWER, OUTPUTS, ["start", "label"])
    assert head is not None
    told = json.loads(body[:head])["outputs"]
    sizes = [entry.get("parameters", {}).get("binary_data_size") for entry in told]
    assert sizes == [len(packed("ü", "")), None, 16]
    assert ["data" in entry for entry in told] == [False, True, False]
    tail = body[head:]
    assert tail[: sizes[0]] == packed("ü", "")
    np.testing.assert_array_equal(np.frombuffer(tail[sizes[0] :], "<i8"), [-1, 2**40])
