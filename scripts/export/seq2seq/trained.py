"""A model that writes and was trained here becomes a version, with the figures of the very graphs that are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripts.export.eval_data import EvalData
from scripts.export.formatting import Say
from scripts.export.import_checkpoint import ImportRequest
from scripts.export.optimize import num_bytes
from scripts.export.publish import VersionContents
from scripts.export.seq2seq.import_writer import WriterCheckpoint, make_contents
from scripts.export.seq2seq.int8 import HeldOut, graphs_of, with_int8
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
        told = {"has_encoder", "start_token_id", "eos_token_ids", "pad_token_id", "generation", "clean_up_tokenization_spaces"}
        if not tokenizer.decoder.has_encoder:
            told |= {"max_length"}
        fields = tokenizer.decoder.model_dump(include=told)
        model = self.model.cpu().float().eval()
        return WriterCheckpoint(self.base, self.training, model, writer, tokenizer.max_tokens, fields, task_options, ())


@dataclass(frozen=True)
class WrittenVersion:
    """What a version is made of, and its graphs."""

    contents: VersionContents
    """Without its evaluation and card; `verified` has the graphs' answers to the held-out rows."""
    runner: WriterRunner

    @property
    def int8_evaluation(self) -> Mapping[str, Any]:
        """What evaluation.json says of the decoder's step in int8, where that was measured."""
        return {name: figures for name, figures in self.contents.evaluation.items() if name == "int8"}

    @property
    def num_decoder_bytes(self) -> int:
        return num_bytes(graphs_of(self.contents).decoder_file)


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
    contents, steps = make_contents(request, trained.checkpoint(dict(reference.task_options)), data, folder, say)
    runner, task = _open(contents, trained)
    options = training.serving_options()
    predictions = predict(task, options, [example.item for example in reference.examples], runner, "evaluating the graphs")
    drift = drift_reference(task, options, trained.tokenizer, predictions)
    held_out = HeldOut(training, task, contents.task_options, reference.examples, True, predictions, steps)
    contents = with_int8(contents, held_out, say)
    verified = replace(contents.verified, predictions=predictions)
    return WrittenVersion(replace(contents, verified=verified, reference=drift), runner)


def _open(contents: VersionContents, trained: TrainedWriter) -> tuple[WriterRunner, Any]:
    """The graphs, and the production task that reads what they write."""
    graphs, tokenizer, training = graphs_of(contents), trained.tokenizer, trained.training
    reader = PairTokenizer(tokenizer.definition, tokenizer.max_tokens, graphs.decoder, tokenizer.target_definition)
    task: Any = training.serving_task(reader, contents.task_options)
    return WriterRunner(graphs, contents.max_tokens, task.sampling(training.serving_options())), task
