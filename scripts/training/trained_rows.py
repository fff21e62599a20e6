"""Which rows a version was trained on: salted hashes of its items in the run's folder, no text, and nothing in the model."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from app.core.errors import InvalidSettings
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
    before: Sequence[TrainedRows] = ()
    """Of the versions that its training went on from; each has a salt of its own."""

    def parts_of(self, items: Iterable[Any]) -> list[Part]:
        """Where training had each item, ignoring case and whitespace; empty where it had not."""
        return [self._part(item) for item in items]

    def _part(self, item: Any) -> Part:
        digest = hashed(item, self.salt)
        if digest in self._train or any(record._part(item) == "train" for record in self.before):
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


def keep(run: Path, manifest: Manifest, dataset: Dataset, base: TrainedRows | None = None) -> Path:
    """Write the record of a version into its run's folder, with what is known of the version that its training went on from.

    Raises:
        OSError: it cannot be written.
    """
    salt = secrets.token_hex(16)
    parts = {"train": dataset.train, "validation": dataset.validation}
    # sorted: their order would say which rows of a file they are
    hashes: dict[str, list[Any]] = {
        name: sorted({hashed(example.item, salt) for example in examples}) for name, examples in parts.items()
    }
    if base is not None:
        earlier = [base, *base.before]
        hashes["before"] = [{"salt": record.salt, "train": record.train, "validation": record.validation} for record in earlier]
    path = run / _file_name(manifest)
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"version": f"{manifest.name}/{manifest.version}", "salt": salt, **hashes}) + "\n")
    return path


def without_trained_on(dataset: Dataset, base: Manifest, runs: Path) -> tuple[Dataset, str]:
    """The data without held-out rows that a version was trained on, from which a training goes on: it knows them already.

    Returns:
        Both the data, and a note on it.

    Raises:
        InvalidSettings: then none would be held out.
    """
    if not dataset.validation:
        return dataset, ""
    name = f"{base.name}/{base.version}"
    record = find(base, runs)
    if record is None:
        return dataset, f"whether {name} was trained on some of the held-out rows is not known: {runs} has no record of it"
    parts = record.parts_of(example.item for example in dataset.validation)
    kept = [example for example, part in zip(dataset.validation, parts, strict=True) if part != "train"]
    count = len(parts) - len(kept)
    if not kept:
        raise InvalidSettings(
            f"all {count:,} rows that would be held out were trained on by {name}, with which this training begins: on them any"
            " figure would be too good; name others with --validation"
        )
    note = f"{count:,} rows left out of the held-out ones: {name}, with which this training begins, was trained on them"
    return replace(dataset, validation=kept), note if count else ""


def find(manifest: Manifest, runs: Path) -> TrainedRows | None:
    """The record of a version's weights in any run's folder; a version with another variant has the weights of its source.

    Returns:
        None where there is none, or it cannot be read.
    """
    for path in sorted(runs.glob(f"*/{_file_name(manifest)}")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            earlier = [_record(entry) for entry in record.get("before", [])]
            return _record(record, earlier)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _record(entry: Mapping[str, Any], before: Sequence[TrainedRows] = ()) -> TrainedRows:
    return TrainedRows(str(entry["salt"]), list(entry["train"]), list(entry["validation"]), before)


def weights_id(manifest: Manifest) -> str:
    """A digest of the files that hold the weights, the same for versions that differ in their variants alone."""
    graph = re.escape(manifest.graph.file)
    files = sorted(name for name in manifest.files if re.match(rf"{graph}(\.|$)", name))
    joined = "".join(manifest.files[name].sha256 for name in files)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _file_name(manifest: Manifest) -> str:
    return f"trained-on-{weights_id(manifest)}.json"
