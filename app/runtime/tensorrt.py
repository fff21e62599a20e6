"""TensorRT's options: the shapes an engine is built for, and the folder that built engines are kept in."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from app.core.errors import ProviderUnavailable
from app.core.manifest import Graph
from app.runtime.layout import HEIGHTS, PACKED_WIDTH, WIDTHS, Limits, bucket, largest
from app.runtime.providers import Provider

PRIVATE = 0o700

logger = logging.getLogger(__name__)


def tensorrt_options(graph_file: Path, graph: Graph, provider: Provider) -> dict[str, str]:
    """What TensorRT is told of a graph, as ONNX Runtime wants it.

    Args:
        graph_file: the published one; engines are kept apart by its content.
        provider: with the limits of its batches; without them, an engine is built anew whenever a tensor is larger than before.
    """
    folder = str(cache_folder(graph_file))
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_fp16_enable": str(int(provider.precision == "fp16")),
        "trt_layer_norm_fp32_fallback": str(int(provider.precision == "fp16")),
    }
    return options | (profile(graph, provider.limits) if provider.limits else {})


def profile(graph: Graph, limits: Limits) -> dict[str, str]:
    """The smallest, usual and largest shape of every input: one engine then takes every batch."""
    maximum = largest(graph, limits)
    width = min(PACKED_WIDTH, maximum.width)
    usual = min(bucket(max(1, limits.max_batch_tokens // width), HEIGHTS), maximum.height)
    return {
        "trt_profile_min_shapes": _profile_shapes(graph, HEIGHTS[0], WIDTHS[0], HEIGHTS[0]),
        "trt_profile_opt_shapes": _profile_shapes(graph, usual, width, maximum.gathered),
        "trt_profile_max_shapes": _profile_shapes(graph, maximum.height, maximum.width, maximum.gathered),
    }


def _profile_shapes(graph: Graph, height: int, width: int, gathered: int) -> str:
    return ",".join(f"{name}:{gathered}" if name == "gather" else f"{name}:{height}x{width}" for name in graph.inputs)


def cache_folder(graph_file: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """A folder for the engines of this graph that nobody else can write to: an engine is code, and is run unchecked.

    It lies in the user's cache or, where that cannot be written, in one that goes with the process. By content, since ONNX
    Runtime tells engines apart by the names in their graph, and two versions of a model have the same.

    Raises:
        ProviderUnavailable: nothing can be written anywhere.
    """
    with graph_file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        root = _users_cache(environment)
        return _private(root.parent, root, root / content)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        logger.warning("TensorRT's engines are not kept for the next start", extra={"error": str(error)})
    try:
        return _private(_processes_cache() / content)
    except OSError as error:
        raise ProviderUnavailable(f"TensorRT needs a folder for its engines: {error}") from error


def _users_cache(environment: Mapping[str, str]) -> Path:
    configured = Path(environment.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path("~/.cache").expanduser()  # what is not absolute is to be ignored
    return base / "hooper" / "tensorrt"


@cache
def _processes_cache() -> Path:
    folder = tempfile.mkdtemp(prefix="hooper-tensorrt-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _private(*folders: Path) -> Path:
    """The last of the folders, each of which lies in the one before; made where they are not there.

    Raises:
        OSError: one cannot be made or written, or others may write to it.
    """
    for folder in folders:
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            raise PermissionError(f"others may write to {folder}")
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    return folders[-1]
