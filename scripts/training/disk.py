"""Where a run writes: whether it may, and whether there is room."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import SetupError
from scripts.training.budget import BYTES, STATES, readable_size
from scripts.training.recipe import Recipe

KEPT_CHECKPOINTS = 3
"""Two, and the next while it is written."""
GRAPH_COPIES = 3
"""Of the weights in fp32 while the graph is made, in the folder for temporary files."""
STORED_BYTES = {"int8": 1, "fp16": 2, "fp32": 4}


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """What is needed of one disk, and what is free."""

    folders: tuple[Path, ...]
    needed_bytes: int
    free_bytes: int

    @property
    def is_enough(self) -> bool:
        return self.needed_bytes <= self.free_bytes

    def __str__(self) -> str:
        needed, free = readable_size(self.needed_bytes), readable_size(self.free_bytes)
        return f"at most about {needed} in {', '.join(map(str, self.folders))}; {free} are free"


def disk_needs(recipe: Recipe, num_weights: int) -> Mapping[Path, int]:
    """Bytes that a run takes at most, by the folder in which."""
    weights = BYTES * num_weights
    checkpoint = 0 if recipe.lora_rank else (STATES - 1) * weights  # of adapters alone it is small; gradients are not kept
    return {
        Path(recipe.runs) / recipe.name: (recipe.average_checkpoints + 1 if recipe.average_checkpoints else KEPT_CHECKPOINTS)
        * checkpoint
        + weights,
        Path(recipe.models) / recipe.name: STORED_BYTES[recipe.storage] * num_weights,
        Path(tempfile.gettempdir()): GRAPH_COPIES * weights,
    }


def disk_room(needs: Mapping[Path, int]) -> Iterator[DiskRoom]:
    """For each disk that is written to; folders that are not there yet will be on the disk of the one above."""
    by_disk: dict[int, list[Path]] = {}
    for folder in needs:
        by_disk.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        free = shutil.disk_usage(_existing(folders[0])).free
        yield DiskRoom(tuple(folders), sum(needs[folder] for folder in folders), free)


def check_writable(recipe: Recipe) -> None:
    """
    Raises:
        SetupError: the run's folder or the model's cannot be made or written.
    """
    for folder in (Path(recipe.runs) / recipe.name, Path(recipe.models) / recipe.name):
        existing = _existing(folder)
        if not existing.is_dir():
            raise SetupError(f"{folder} cannot be written: {existing} is no folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise SetupError(f"{folder} cannot be written: {os.strerror(errno.EACCES)}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    path = folder.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
