"""Every task that can be trained here: from a file of data to a published model that answers as the service does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.batching.admission import QueueLimit
from app.core.artefact import open_artefact
from app.observability.metrics import Metrics
from app.serving.loader import LoadOptions, load
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.spec import TaskSpec
from tests.contracts.conftest import World

pytest.importorskip("torch")

from scripts.tasks import training_tasks
from scripts.train_and_export import main
from tests.support.tiny_causal import save_checkpoint
from tests.unit.scripts.conftest import make_base, write_news, write_reviews, write_squad


def write_ratings(path: Path) -> Path:
    """Reviews with a number in place of a label."""
    text = write_reviews(path).read_text(encoding="utf-8")
    path.write_text(
        text.replace("text,label", "text,score").replace(",positive", ",4.5").replace(",negative", ",1"), encoding="utf-8"
    )
    return path


def write_tags(path: Path) -> Path:
    """Tagged sentences, a token a line."""
    sentences = [f"the O\nfilm B-X\n{number} I-X\nwas O\n{('good', 'bad')[number % 2]} O\n" for number in range(30)]
    path.write_text("\n".join(sentences), encoding="utf-8")
    return path


def write_ranked(path: Path) -> Path:
    """Queries, each with a document that answers it and one that does not."""
    rows = [
        {"query": f"good film {number}", "document": f"the film was {word} {number}", "label": label}
        for number in range(20)
        for word, label in (("good", 1), ("bad", 0))
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_pairs(path: Path) -> Path:
    """Texts, each with one that belongs to it."""
    rows = [{"anchor": f"good film {number}", "positive": f"the film {number} was good"} for number in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_translations(path: Path) -> Path:
    """Texts in two languages."""
    rows = [{"en": f"the good film {number} was new", "de": f"the film {number} was good"} for number in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_rewritten(path: Path) -> Path:
    """Texts, each with what is to be written from it."""
    rows = [{"source": f"the good film {number} was new", "target": f"good film {number}"} for number in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_completed(path: Path) -> Path:
    """Prompts, each with what continues it."""
    rows = [{"prompt": f"the good film {number}", "completion": f" was new {number}"} for number in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


DATA: Mapping[str, tuple[str, Callable[[Path], Path]]] = {
    "text-classification": ("data.csv", write_reviews),
    "text-regression": ("data.csv", write_ratings),
    "question-answering": ("data.json", write_squad),
    "summarization": ("data.jsonl", write_news),
    "token-classification": ("data.conll", write_tags),
    "text-ranking": ("data.jsonl", write_ranked),
    "feature-extraction": ("data.jsonl", write_pairs),
    "translation": ("data.jsonl", write_translations),
    "abstractive-summarization": ("data.jsonl", write_news),
    "text2text-generation": ("data.jsonl", write_rewritten),
    "text-generation": ("data.jsonl", write_completed),
}
"""A tiny file for each task that can be trained, the only thing about it that must be said here."""


def test_its_training_half_is_the_one_that_it_names(spec: TaskSpec) -> None:
    trained = training_tasks().get(spec.name)
    assert (trained is not None) == bool(spec.training)
    if trained is not None:
        assert (trained.name, trained.output_axis) == (spec.name, spec.output.axis)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_it_is_trained_published_and_loaded(world: World, spec: TaskSpec, tmp_path: Path) -> None:
    if not spec.training or not spec.is_trained:
        return
    name, write = DATA[spec.name]
    training = training_tasks()[spec.name]
    is_encoder = not training.has_decoder or getattr(training, "has_encoder", True)
    base = make_base(tmp_path / "base") if is_encoder else save_checkpoint("llama", tmp_path / "base")
    with contextlib.chdir(tmp_path):
        options = ["--base-model", str(base), "--epochs", "1", "--batch-size", "8", "--precision", "fp32"]
        assert main([str(write(Path(name))), "--task", spec.name, "--name", "trained", *options]) == 0
    settings = Settings(device="cpu", engine_threads=1)
    deployment = await load(
        open_artefact(tmp_path / "models" / "trained" / "1"),
        LoadOptions.from_settings(settings, QueueLimit(100, 10_000)),
        Metrics(),
    )
    assert deployment.spec.name == spec.name
    item = spec.item(**{name: "the film was very good" for name, field in spec.fields.items() if field.required})
    (result,) = (await deployment.predict([item], spec.options())).results
    assert isinstance(result, Result)
    spec.routes[0].wrap(result)
    await deployment.aclose(0)
