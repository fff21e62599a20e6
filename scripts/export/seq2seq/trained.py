"""A model that writes and was trained here becomes a version, with the figures of the very graphs that are published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.core.manifest import Manifest
from app.runtime.providers import choose_provider
from scripts.export.eval_data import EvalData
from scripts.export.formatting import Say
from scripts.export.import_checkpoint import ImportRequest
from scripts.export.publish import VersionContents
from scripts.export.seq2seq.generation import decoder_fields
from scripts.export.seq2seq.import_writer import WriterCheckpoint, make_contents
from scripts.export.seq2seq.runner import WriterRunner
from scripts.export.seq2seq.tokenizers import WriterTokenizer
from scripts.export.verify import Reference
from scripts.tasks.generation.task import GenerationTraining
from scripts.training.evaluation import drift_reference, predict
from scripts.training.pretrained import BaseModel
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.tokenizer import PairTokenizer


@dataclass(frozen=True)
class TrainedWriter:
    """A torch model that writes, and what it was trained by."""

    recipe: Recipe
    training: GenerationTraining
    model: Any
    base: BaseModel
    tokenizer: PairTokenizer

    def checkpoint(self, task_options: dict[str, Any]) -> WriterCheckpoint:
        """The same as what is published of a checkpoint."""
        tokenizer, known = self.tokenizer, self.tokenizer.known
        original = SimpleNamespace(unk_token_id=known[1] if known else None)
        writer = WriterTokenizer(original, tokenizer.definition, tokenizer.target_definition, known[0] if known else 0)
        fields, _ = decoder_fields(self.model)
        model = self.model.cpu().float().eval()
        return WriterCheckpoint(self.base, self.training, model, writer, tokenizer.max_tokens, fields, task_options, ())


@dataclass(frozen=True)
class WrittenVersion:
    """What a version is made of, and its graphs."""

    contents: VersionContents
    """Without its evaluation and card; `verified` has the graphs' answers to the held-out rows."""
    runner: WriterRunner

    @property
    def num_decoder_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.contents.decoder_files)


def make_version(trained: TrainedWriter, reference: Reference, folder: Path, say: Say) -> WrittenVersion:
    """export > verify > quantize > verify, and the graphs' own answers to the held-out rows.

    Args:
        trained: the torch model.
        reference: its answers to the held-out rows.
        folder: where graphs are written.
        say: prints each stage.

    Raises:
        ParityFailed: the graphs do not write what the torch model writes.
        ExportFailed: its encoder cannot become a graph.
    """
    recipe, training = trained.recipe, trained.training
    data = EvalData(reference.examples, True, (), "the rows held out")
    request = ImportRequest(trained.base.location, recipe, training.name, (), recipe.storage, "")
    contents = make_contents(request, trained.checkpoint(dict(reference.task_options)), data, folder, say)
    runner, task = _open(contents, trained)
    options = training.serving_options()
    predictions = predict(task, options, [example.item for example in reference.examples], runner, "evaluating the graphs")
    drift = drift_reference(task, options, trained.tokenizer, predictions)
    verified = replace(contents.verified, predictions=predictions)
    return WrittenVersion(replace(contents, verified=verified, reference=drift), runner)


def _open(contents: VersionContents, trained: TrainedWriter) -> tuple[WriterRunner, Any]:
    """The graphs, and the production task that reads what they write."""
    decoder, tokenizer, training = contents.decoder, trained.tokenizer, trained.training
    if decoder is None:
        raise TypeError(f"{contents.name} does not write")
    reader = PairTokenizer(tokenizer.definition, tokenizer.max_tokens, decoder, tokenizer.target_definition)
    task: Any = training.serving_task(reader, contents.task_options)
    manifest = Manifest(
        name=contents.name, version=1, task=training.name, created="", base_model="", max_tokens=contents.max_tokens,
        graph=contents.verified.graph, decoder=decoder, parity={}, files={},
    )  # fmt: skip
    file = next(file for file in contents.decoder_files if file.name == decoder.file)
    how = task.sampling(training.serving_options())
    return WriterRunner(contents.verified.file, file, manifest, choose_provider("cpu"), how), task
