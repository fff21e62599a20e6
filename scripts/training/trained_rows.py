"""Which rows a version was trained on: salted hashes of its items in the run's folder, no text, and nothing in the model."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from app.core.files import write_atomically
from app.core.manifest import Manifest
from scripts.training.data import Dataset, normalized

DIGEST_BYTES = 8
"""Of an item's hash: two of a million different items share one with a chance of 3 in 100 million."""
UNKNOWN = (
    "which of these rows the model was trained on is not known: {runs} has no record of it, as for models that were trained"
    " elsewhere or by an earlier release (--runs names another folder)"
)
Part = Literal["train", "validation", ""]


@dataclass(frozen=True)
class TrainedRows:
    """Hashes of the items that a version was trained on, and of those that were held out."""

    salt: str
    train: Sequence[str]
    validation: Sequence[str]

    def parts_of(self, items: Iterable[Any]) -> list[Part]:
        """Where training had each item, ignoring case and whitespace; empty where it had not."""
        return [self._part(hashed(item, self.salt)) for item in items]

    def _part(self, digest: str) -> Part:
        if digest in self._train:
            return "train"
        return "validation" if digest in self._validation else ""

    @cached_property
    def _train(self) -> frozenset[str]:
        return frozenset(self.train)

    @cached_property
    def _validation(self) -> frozenset[str]:
        return frozenset(self.validation)


def hashed(item: Any, salt: str) -> str:
    text = normalized(item).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES, key=bytes.fromhex(salt)).hexdigest()


def keep(run: Path, manifest: Manifest, dataset: Dataset) -> Path:
    """Write the record of a version into its run's folder.

    Raises:
        OSError: it cannot be written.
    """
    salt = secrets.token_hex(16)
    parts = {"train": dataset.train, "validation": dataset.validation}
    # sorted: their order would say which rows of a file they are
    hashes = {name: sorted({hashed(example.item, salt) for example in examples}) for name, examples in parts.items()}
    path = run / _file_name(manifest)
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"version": f"{manifest.name}/{manifest.version}", "salt": salt, **hashes}) + "\n")
    return path


def find(manifest: Manifest, runs: Path) -> TrainedRows | None:
    """The record of a version's weights in any run's folder; a version with another variant has the weights of its source.

    Returns:
        None where there is none, or it cannot be read.
    """
    for path in sorted(runs.glob(f"*/{_file_name(manifest)}")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return TrainedRows(str(record["salt"]), list(record["train"]), list(record["validation"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def weights_id(manifest: Manifest) -> str:
    """A digest of the files that hold the weights, the same for versions that differ in their variants alone."""
    graph = re.escape(manifest.graph.file)
    files = sorted(name for name in manifest.files if re.match(rf"{graph}(\.|$)", name))
    joined = "".join(manifest.files[name].sha256 for name in files)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _file_name(manifest: Manifest) -> str:
    return f"trained-on-{weights_id(manifest)}.json"
