"""The run folder: what a training run leaves on disk while it lasts, how a later one resumes, and what the disk refused."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.core.errors import HooperError, InvalidSettings, SetupError
from app.core.files import write_atomically
from scripts.tasks import current_keys
from scripts.training.data import Dataset
from scripts.training.processes import is_main_process
from scripts.training.recipe import AUTO, Recipe

FREE_KEYS = frozenset(
    {"models", "runs", "golden", "description", "license", "limits", "max_bad_share", "storage", "serve_anyway"}
)
"""Recipe keys that decide nothing about the training: they may change when a run is resumed."""
FIRST_WITH_PROBES = "head"
BEFORE_PROBES: Mapping[str, Any] = {"head": "random", "pooling": "first", "batch_size": 32}
"""What release 0.1.0 did, which knew no key `head`."""
RECIPE = "recipe.json"
COST = "cost.json"
FINAL = "final"
SETTLED = "settled.json"
HISTORY = "history.json"
TEACHER = "teacher.npy"
VOCABULARY = "tokenizer.json"


class Interrupted(Exception):
    """The person stopped the run. `checkpoint` is what it can go on from, if there is one."""

    def __init__(self, checkpoint: Path | None) -> None:
        super().__init__(f"training was stopped; {f'{checkpoint} is kept' if checkpoint else 'nothing of it is kept'}")
        self.checkpoint = checkpoint


class RunFolder:
    """`runs/<name>`: checkpoint-<update>/, final/ (the finished model), recipe.json, cost.json, settled.json,
    teacher.npy, tokenizer.json (of a model from nothing)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def final(self) -> Path:
        """The finished model, saved in one step: if the folder is there, it is whole."""
        return self.path / FINAL

    @property
    def teacher(self) -> Path:
        """The teacher's answers to the training rows, kept for a resumed run."""
        return self.path / TEACHER

    @property
    def is_finished(self) -> bool:
        return (self.final / "config.json").is_file()

    @property
    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first. transformers writes a checkpoint's state last, so one without it was cut off."""
        folders = [path for path in self.path.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
        return sorted(filter(_is_whole, folders), key=lambda path: int(path.name.rpartition("-")[2]))

    @property
    def last_checkpoint(self) -> Path | None:
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def vocabulary(self) -> str:
        """JSON text of the tokenizer that was made for the run; empty where there is none."""
        try:
            return (self.path / VOCABULARY).read_text(encoding="utf-8")
        except OSError:
            return ""

    def start(self, recipe: Recipe, dataset: Dataset | None = None, vocabulary: str = "") -> None:
        """Forget any earlier run of this name, and write down what this one is made from."""
        for path in [*self.path.glob("checkpoint-*"), *self.path.glob(f"{FINAL}*")]:
            if path.is_dir() and re.fullmatch(rf"checkpoint-\d+|{FINAL}(\.partial)?", path.name):
                shutil.rmtree(path)
        for name in (COST, SETTLED, TEACHER, HISTORY, VOCABULARY):
            (self.path / name).unlink(missing_ok=True)
        self.remember(recipe, dataset)
        if vocabulary:
            write_atomically(self.path / VOCABULARY, vocabulary, partial=self.path / f"{VOCABULARY}.partial")

    def sweep(self) -> None:
        """Remove what was cut off while it was written."""
        cut_off = [path for path in self.path.glob("checkpoint-*") if path.is_dir() and not _is_whole(path)]
        for path in [*cut_off, self.path / f"{FINAL}.partial"]:
            shutil.rmtree(path, ignore_errors=True)

    def remember(self, recipe: Recipe, dataset: Dataset | None = None) -> None:
        """Write recipe.json: what a resumed run is compared with. Without a data set only the recipe is compared."""
        self.path.mkdir(parents=True, exist_ok=True)
        written = {"recipe": dataclasses.asdict(recipe)}
        if dataset is not None:
            written["examples"] = {"sha256": fingerprint(dataset)}
        _write(self.path / RECIPE, written)

    def settle(self, figures: Mapping[str, Any]) -> None:
        """Write down what was measured before the first update: a resumed run must not measure it anew."""
        if is_main_process():
            self.path.mkdir(parents=True, exist_ok=True)
            _write(self.path / SETTLED, figures)

    @property
    def stored_length(self) -> dict[str, Any] | None:
        """What was measured; none where nothing was."""
        try:
            stored: dict[str, Any] = json.loads((self.path / SETTLED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return stored

    def check_same(self, recipe: Recipe, dataset: Dataset) -> Recipe:
        """Refuse to go on with another recipe or other data than the run began with.

        Returns:
            The recipe to go on with: a run of an earlier release goes on by what was its default then.

        Raises:
            InvalidSettings: something that decides the training differs, or there is nothing to resume.
        """
        try:
            written = json.loads((self.path / RECIPE).read_text(encoding="utf-8"))
            before: Mapping[str, Any] = written["recipe"]
        except FileNotFoundError:
            raise InvalidSettings(f"there is nothing to resume: {self.path / RECIPE} does not exist") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidSettings(f"{self.path / RECIPE} cannot be read: {error}") from error
        if FIRST_WITH_PROBES not in before:
            unsaid = {key: value for key, value in BEFORE_PROBES.items() if getattr(recipe, key) == getattr(Recipe(), key)}
            recipe, before = dataclasses.replace(recipe, **unsaid), {**BEFORE_PROBES, **before}
        now = dataclasses.asdict(recipe)
        # a run that was begun before there was a key knows nothing of it; what the key does to the data shows in the examples
        before = current_keys({**dataclasses.asdict(Recipe()), **before})
        if before["task"] == AUTO:
            before["task"] = recipe.task
        if not recipe.label_separator and before["label_separator"] == "|":
            before["label_separator"] = ""  # as release 0.1.0 wrote the default
        differing = [key for key in now if key not in FREE_KEYS and before[key] != now[key]]
        if differing:
            listing = ", ".join(f"{key} (was {before.get(key)!r}, is {now[key]!r})" for key in differing)
            raise InvalidSettings(
                f"the run in {self.path} was made with another recipe: {listing}; leave out --resume to start anew"
            )
        if written.get("examples", {}).get("sha256") not in (None, fingerprint(dataset)):
            raise InvalidSettings(f"the data has changed since the run in {self.path} began; leave out --resume to start anew")
        return recipe

    def save_final(self, model: Any, cost: Mapping[str, Any], files: Mapping[str, str | Path] = MappingProxyType({})) -> None:
        """Keep the finished model (safetensors) and what it cost; beside it files, by name as text or as what is copied."""
        partial = self.path / f"{FINAL}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            model.save_pretrained(partial)
            for name, content in files.items():
                text_or_bytes = content.read_bytes() if isinstance(content, Path) else content.encode("utf-8")
                (partial / name).write_bytes(text_or_bytes)
            _write(self.path / COST, cost)
            shutil.rmtree(self.final, ignore_errors=True)
            partial.rename(self.final)
        except OSError as error:
            raise SetupError(f"the finished model cannot be saved in {self.path}: {error.strerror or error}") from error

    def keep_history(self, history: Mapping[str, Any]) -> None:
        """Write down losses and learning rates, for the report."""
        if is_main_process():
            self.path.mkdir(parents=True, exist_ok=True)
            _write(self.path / HISTORY, history)

    @property
    def history(self) -> dict[str, Any]:
        """Losses and learning rates of the finished run; empty where they were not written down."""
        try:
            stored: dict[str, Any] = json.loads((self.path / HISTORY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored

    @property
    def cost(self) -> dict[str, Any]:
        """What the finished run cost; empty where that was not written down."""
        try:
            stored: dict[str, Any] = json.loads((self.path / COST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored


def fingerprint(dataset: Dataset) -> str:
    """sha256 over all examples, in order."""
    digest = hashlib.sha256()
    unlabelled = (dataset.unlabelled,) if dataset.unlabelled else ()  # a run that was begun before there were any has none
    for part in (dataset.train, dataset.validation, *unlabelled):
        digest.update(b"part")
        for entry in part:
            digest.update(repr((entry.item, entry.target)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text, partial=path.with_name(f"{path.name}.partial"))


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)
_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers end what the system said."""
_TORCH = re.compile(r"PytorchStreamWriter|unexpected pos \d+ vs")
"""What torch.save says when a file cannot be written to its end."""


def refusal(error: BaseException) -> str | None:
    """What the disk said and of which file, if that is what stopped the program: `No space left on device: runs/…`."""
    for entry in _chain(error):
        number = entry.errno if isinstance(entry, OSError) else _number(str(entry))
        if number in REFUSALS:
            name = f": {entry.filename}" if isinstance(entry, OSError) and entry.filename else ""
            return f"{os.strerror(number)}{name}"
        if _TORCH.search(str(entry)):
            return "a checkpoint could not be written to its end, as when the disk is full"
    return None


def stop_if_refused(error: Exception) -> None:
    """What a disk refuses says nothing about the model.

    Raises:
        SetupError: that is what the error comes from.
    """
    refused = refusal(error)
    if refused is not None:
        raise SetupError(f"{refused}; nothing was published") from error


@contextmanager
def refusals_told(run: RunFolder) -> Iterator[None]:
    """Whatever stops the block, nothing half-written stays in the run's folder.

    Raises:
        SetupError: the disk refused something.
    """
    try:
        yield
    except Exception as error:
        run.sweep()
        refused = None if isinstance(error, HooperError) else refusal(error)
        if refused is None:
            raise
        last = run.last_checkpoint
        advice = f"; {last} is kept, and resume with --resume" if last and not run.is_finished else ""
        raise SetupError(f"{refused}; nothing was published{advice}") from error


def _number(text: str) -> int | None:
    match = _RUST.search(text)
    return int(match[1]) if match else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
