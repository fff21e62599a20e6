"""Tensors of the Open Inference Protocol: request bodies to texts, columns of answers to response bodies.

A body is JSON, or JSON followed by the data of its tensors: the "binary tensor data" extension, which Triton's clients use
unless told otherwise. The length of the JSON then stands in the header `Inference-Header-Content-Length`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from pydantic import ValidationError

from app.api.json_body import read_json
from app.api.protocols.open_inference_schemas import InferRequest, InferResponse, RequestInput, ResponseOutput
from app.core.errors import EmptyBatch, InvalidInput, TooManyItems
from app.core.validation import describe_validation
from app.tasks.spec import Datatype, OpenInferenceCodec

HEADER = "Inference-Header-Content-Length"
_LENGTH = struct.Struct("<I")
_DTYPES: dict[Datatype, str] = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output: its elements row after row."""

    datatype: Datatype
    shape: Sequence[int]
    data: Sequence[Any]


async def read_request(body: bytes, json_length: int | None, max_items: int) -> tuple[InferRequest, bytes]:
    """The JSON of a request's body, and the bytes after it.

    Raises:
        InvalidInput: the JSON is none or has a wrong field, or the length is not within the body.
        TooManyItems: a tensor has more elements than a request may hold items.
    """
    if json_length is not None and json_length > len(body):
        raise InvalidInput(f"is {json_length}, but the body has {len(body)} bytes", HEADER)
    length = len(body) if json_length is None else json_length
    value = await read_json(body[:length], max_items)
    _check_elements(value, max_items)
    try:
        request = InferRequest.model_validate_json(body[:length])  # once more: its errors say `array`, as JSON does, not `list`
    except ValidationError as error:
        raise InvalidInput(describe_validation(error.errors(include_url=False, include_input=False))) from None
    for tensor in request.inputs:  # elements may follow the JSON
        _check_number(tensor.shape[0] if tensor.shape else 0, max_items)
    return request, body[length:]


def _check_elements(value: Any, max_items: int) -> None:
    """Count the elements of each tensor, whatever they are."""
    inputs = value.get("inputs") if isinstance(value, dict) else None
    for tensor in inputs if isinstance(inputs, list) else ():
        data = tensor.get("data") if isinstance(tensor, dict) else None
        if not isinstance(data, list):
            continue
        _check_number(len(data), max_items)
        _check_number(sum(len(row) if isinstance(row, list) else 1 for row in data), max_items)


def _check_number(num_items: int, max_items: int) -> None:
    if num_items > max_items:
        raise TooManyItems(f"{num_items} items are too many; at most {max_items}", "inputs")


def read_texts(inputs: Sequence[RequestInput], tail: bytes, signature: OpenInferenceCodec) -> dict[str, list[str]]:
    """The texts of every input, by its name; as many in each.

    Args:
        tail: the bytes after the JSON.

    Raises:
        InvalidInput: an input is unknown, missing or there twice; its type, shape or data is wrong; bytes are left over.
    """
    texts_by_name: dict[str, list[str]] = {}
    for entry in inputs:
        if entry.name not in (*signature.inputs, *signature.optional):
            accepted = ", ".join((*signature.inputs, *signature.optional))
            raise InvalidInput(f"{entry.name!r} is not an input of this model, which has {accepted}", "inputs")
        if entry.name in texts_by_name:
            raise InvalidInput("is there twice", f"inputs.{entry.name}")
        size = entry.parameters.binary_data_size if entry.parameters else None
        elements, tail = _elements(entry, size, tail)
        texts_by_name[entry.name] = _checked(entry, elements)
    missing = [name for name in signature.inputs if name not in texts_by_name]
    if missing:
        raise InvalidInput("is required", f"inputs.{missing[0]}")
    if len({len(texts) for texts in texts_by_name.values()}) > 1:
        row_counts = ", ".join(f"{name} has {len(texts)}" for name, texts in texts_by_name.items())
        raise InvalidInput(f"need one row per item in each: {row_counts}", "inputs")
    if tail:
        raise InvalidInput(f"{len(tail)} bytes after the JSON belong to no input", "inputs")
    return texts_by_name


def write_response(answer: InferResponse, outputs: Mapping[str, Tensor], binary: Sequence[str]) -> tuple[bytes, int | None]:
    """The body of a response.

    Args:
        answer: its outputs are left out; they are filled in here.
        outputs: the tensors, by their names, in the order wanted.
        binary: the names of those whose data follows the JSON.

    Returns:
        The body, and the length of its JSON where bytes follow.
    """
    entries: list[ResponseOutput] = []
    tails: list[bytes] = []
    for name, tensor in outputs.items():
        output = ResponseOutput(name=name, datatype=tensor.datatype, shape=list(tensor.shape), data=None, parameters=None)
        if name in binary:
            tails.append(_packed(tensor))
            output.parameters = {"binary_data_size": len(tails[-1])}
        else:
            output.data = list(tensor.data)
        entries.append(output)
    head = answer.model_copy(update={"outputs": entries}).model_dump_json(exclude_none=True).encode()
    return b"".join((head, *tails)), len(head) if binary else None


def _elements(item: RequestInput, size: int | None, tail: bytes) -> tuple[list[Any], bytes]:
    """The elements of an input, in one list, and the bytes that are left for the inputs after it."""
    where = f"inputs.{item.name}"
    if size is None:
        if item.data is None:
            raise InvalidInput("has no data", where)
        return list(_flat(item.data)), tail
    if item.data is not None:
        raise InvalidInput("has data both in the JSON and after it", where)
    if size > len(tail):
        raise InvalidInput(f"binary_data_size is {size}, but {len(tail)} bytes are left", where)
    # one element more than the shape has says enough: a text takes four bytes or more, so that there could be half a million
    return list(islice(_unpacked(tail[:size], where), item.shape[0] + 1 if item.shape else 1)), tail[size:]


def _checked(item: RequestInput, elements: Sequence[Any]) -> list[str]:
    where = f"inputs.{item.name}"
    if item.datatype != "BYTES":
        raise InvalidInput(f"datatype is {item.datatype}, should be BYTES", where)
    if len(item.shape) not in (1, 2) or item.shape[1:] not in ([], [1]):
        raise InvalidInput(f"shape is {item.shape}, should be [n] or [n, 1]", where)
    if len(elements) != item.shape[0]:
        raise InvalidInput(f"has {len(elements)} elements, but its shape is {item.shape}", where)
    if not elements:
        raise EmptyBatch("must not be empty", where)
    for number, element in enumerate(elements):
        if not isinstance(element, str):
            raise InvalidInput("should be a string", f"{where}.{number}")
    return list(elements)


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    """Elements of a list, or of a list of lists."""
    for row in data:
        if isinstance(row, list):
            yield from row
        else:
            yield row


def _unpacked(data: bytes, where: str) -> Iterator[str]:
    place = number = 0
    while place < len(data):
        start = place + _LENGTH.size
        if start > len(data) or start + (length := _LENGTH.unpack_from(data, place)[0]) > len(data):
            raise InvalidInput("its bytes end within a text", f"{where}.{number}")
        place = start + length
        try:
            yield data[start:place].decode()
        except UnicodeDecodeError:
            raise InvalidInput("is not UTF-8", f"{where}.{number}") from None
        number += 1


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        encoded = [text.encode() for text in tensor.data]
        return b"".join(_LENGTH.pack(len(encoding)) + encoding for encoding in encoded)
    return np.asarray(tensor.data, _DTYPES[tensor.datatype]).tobytes()
