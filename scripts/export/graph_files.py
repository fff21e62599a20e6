"""Files of graphs: protobuf ends at 2 GB, and what is larger keeps its weights in a second file beside the first."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto
from onnx.external_data_helper import uses_external_data

MAX_PROTO_BYTES = 2_000_000_000
"""Of weights in one file: protobuf's limit is 2^31 - 1, for everything in it."""
DATA_SUFFIX = ".data"
MIN_DATA_BYTES = 1024
"""Smaller tensors stay in the graph, where shapes are read from."""


def weights_file(file: Path) -> Path | None:
    """The file beside a graph that holds its weights, if it has one."""
    data = file.with_name(file.name + DATA_SUFFIX)
    return data if data.is_file() else None


def files_of(file: Path) -> list[Path]:
    """A graph's file, and that of its weights where there is one."""
    data = weights_file(file)
    return [file] if data is None else [file, data]


def num_bytes(file: Path) -> int:
    """Of a graph with its weights."""
    return sum(part.stat().st_size for part in files_of(file))


def save(model: ModelProto, file: Path) -> None:
    """Check a graph and write it, in two files where it would not go into one. Its weights may be gone from memory then."""
    delete(file)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_PROTO_BYTES:
        onnx.save(
            model,
            file,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=file.name + DATA_SUFFIX,
            size_threshold=MIN_DATA_BYTES,
        )
    else:
        onnx.save(model, file)
    onnx.checker.check_model(str(file))


def move(source: Path, target: Path) -> Path:
    """Rename a graph, with its weights.

    Returns:
        The target.
    """
    data = weights_file(source)
    if data is None:
        return source.replace(target)
    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            next(entry for entry in tensor.external_data if entry.key == "location").value = target.name + DATA_SUFFIX
    onnx.save(model, target)
    data.replace(target.with_name(target.name + DATA_SUFFIX))
    source.unlink()
    return target


def delete(file: Path) -> None:
    """Remove a graph with its weights; what is not there is no error. ONNX would append to the weights of an older one."""
    for part in files_of(file):
        part.unlink(missing_ok=True)
