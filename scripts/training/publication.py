"""The end of the line: card > publish > report, with the figures of the very graph that is published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.core.manifest import read_manifest
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.registry import installed_tasks
from app.tasks.tokenizer import Tokenizer
from scripts.export.card import CardInput, write_card
from scripts.export.formatting import Say, describe_perplexity
from scripts.export.optimize import num_bytes
from scripts.export.publish import VersionContents, contents_of, publish
from scripts.export.seq2seq.trained import WrittenVersion
from scripts.export.succession import FINGERPRINT, Succession, judge_succession
from scripts.export.verified_graph import VerifiedGraph, evaluation_of
from scripts.export.verify import Reference
from scripts.report.build import write_run_report
from scripts.tasks.spec import Prepared, TrainingTask
from scripts.training import trained_rows
from scripts.training.baselines import compare_baselines, describe_baselines, unbeaten
from scripts.training.callbacks import Callback, notify
from scripts.training.columns import data_format
from scripts.training.data import Example, held_out_fingerprint
from scripts.training.evaluation import RowRunner
from scripts.training.pretrained import BaseModel
from scripts.training.recipe import Recipe, to_command
from scripts.training.run_folder import RunFolder
from scripts.training.seq2seq.tokenizer import PairTokenizer

SHOWN_FROM = 50
"""Held-out items of which one is shown as a request."""
EASILY_TYPED = 160
"""Characters of a request that is short enough."""


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model, and what is needed to feed it."""

    model: Any
    base: BaseModel
    tokenizer: str
    max_tokens: int
    cost: dict[str, Any]
    history: Mapping[str, Any] = field(default_factory=dict)
    """Losses and learning rates, as `history_of` gives them."""
    untrained: Sequence[Any] = ()
    """What the base model answered to the held-out rows, of a task that is compared with it."""
    writing: PairTokenizer | None = None
    """Of a model that writes, in place of a plain tokenizer."""
    perplexity: Mapping[str, Any] = field(default_factory=dict)
    """Of a model that writes, on the held-out targets; `before` training, too, where it had learnt something."""

    @property
    def reader(self) -> Tokenizer:
        """The tokenizer with the length of the longest input."""
        return self.writing or Tokenizer(self.tokenizer, self.max_tokens)


@dataclass(frozen=True)
class PublishedModel:
    """What the line made."""

    folder: Path
    evaluation: dict[str, Any]
    request: dict[str, Any]
    """A held-out item to try it with, as its fields."""
    succession: Succession
    report: Path | None = None
    """The page of its report, if it could be written."""


@dataclass(frozen=True)
class PublishingRun:
    """The run that a version comes of."""

    recipe: Recipe
    training: TrainingTask
    run_folder: RunFolder
    say: Say
    script: str
    """The Python that repeats it, where no `hooper train` line does."""
    recipe_file: Path | None


@dataclass(frozen=True)
class Publication:
    """A fine-tuned model on its way to a published version."""

    run: PublishingRun
    prepared: Prepared
    trained: Trained
    reference: Reference
    """The torch model's answers to what it has not seen."""
    verified: VerifiedGraph
    version: WrittenVersion | None = None
    """Of a model that writes, `verified` being its encoder."""

    def publish(self, callbacks: Sequence[Callback] = ()) -> PublishedModel:
        """card > publish > report."""
        run, reference, trained = self.run, self.reference, self.trained
        answers, options = self.verified.predictions.answers, dict(reference.task_options)
        succession = judge_succession(run.recipe, run.training, reference.examples, answers, options)
        evaluation = self._evaluation()
        if succession.record:
            evaluation["replaces"] = succession.record
        folder = publish(self._contents(evaluation), Path(run.recipe.models), succession.serves)
        run.say("publish", str(folder))
        if succession.sentence:
            run.say("", succession.sentence)
        if not succession.serves:
            run.say("", f"to let it serve: {succession.promotion(run.recipe.models)}")
        self._keep_rows(folder)
        notify(callbacks, "on_publish", evaluation["headline"], folder)
        sections: dict[str, Any] = {"baselines": evaluation["baselines"], "history": dict(trained.history)}
        if trained.perplexity:
            sections["perplexity"] = describe_perplexity(trained.perplexity)
        report = self._report(folder, sections)
        return PublishedModel(folder, evaluation, request_of(run.training, reference.examples), succession, report)

    def _evaluation(self) -> dict[str, Any]:
        run, dataset, perplexity = self.run, self.prepared.dataset, self.trained.perplexity
        return {
            **evaluation_of(self.verified, self.reference),
            **({"perplexity": dict(perplexity)} if perplexity else {}),
            "baselines": self._baselines(),
            "data": {
                "trained_on": len(dataset.train),
                "held_out": len(dataset.validation),
                FINGERPRINT: held_out_fingerprint(dataset.validation),
                "broken": len(dataset.broken),
                "left_out_because_held_out": dataset.num_leaked,
                **({"corrections": dataset.num_corrections} if run.recipe.from_feedback else {}),
            },
            "training": self.trained.cost,
            **({"script": run.script} if run.script else {"command": to_command(run.recipe, run.recipe_file)}),
            **(self.version.int8_evaluation if self.version is not None else {}),
        }

    def _baselines(self) -> dict[str, dict[str, Any]]:
        """What methods without a transformer reach on the same held-out rows, and perhaps the base model."""
        training, trained, dataset = self.run.training, self.trained, self.prepared.dataset
        answers, options = self.verified.predictions.answers, self.reference.task_options
        untrained = [(f"{trained.base.name}, untrained", trained.untrained)] if trained.untrained else []
        others = training.baselines(dataset.train, dataset.validation, options)
        baselines = compare_baselines(training, [*untrained, *others], dataset.validation, answers, options)
        names = training.metric_names(options)
        lines = [*describe_baselines(baselines, names), *unbeaten(baselines, names)]
        for number, line in enumerate(lines):
            self.run.say("" if number else "baseline", line)
        return baselines

    def _contents(self, evaluation: dict[str, Any]) -> VersionContents:
        recipe, trained, card = self.run.recipe, self.trained, self._card(evaluation)
        if self.version is not None:
            contents = replace(self.version.contents, evaluation=evaluation, card=card, description=recipe.description)
        else:
            contents = contents_of(
                recipe, trained.base.name, trained.tokenizer, trained.reader, self.verified, self.reference,
                evaluation, card,
            )  # fmt: skip
        return replace(contents, data_format=data_format(recipe, self.prepared))

    def _card(self, evaluation: dict[str, Any]) -> str:
        run, verified = self.run, self.verified
        parity = dict(verified.parity)
        if run.recipe.storage != "fp32":
            parity = {"before quantization": verified.exported, **parity}
        return write_card(
            CardInput(
                recipe=run.recipe,
                base_model=self.trained.base.name,
                dataset=self.prepared.dataset,
                max_tokens=self.trained.max_tokens,
                num_bytes=num_bytes(verified.file) + (self.version.num_decoder_bytes if self.version else 0),
                evaluation=evaluation,
                parity=parity,
                cost=self.trained.cost,
                command=run.script or evaluation["command"],
                language="python" if run.script else "sh",
                notes=self.prepared.sentences,
            )
        )

    def _keep_rows(self, folder: Path) -> None:
        """For reports on other data, which say what of it was trained on."""
        run, base = self.run, self.trained.base
        before = None if base.version is None else trained_rows.find(base.version, Path(run.recipe.runs))
        try:
            trained_rows.keep(run.run_folder.path, read_manifest(folder), self.prepared.dataset, before)
        except OSError as error:  # the model is published, and answers without it
            run.say("", f"which rows were trained on could not be written down: {error.strerror or error}")

    def _report(self, folder: Path, sections: Mapping[str, Any]) -> Path | None:
        run, verified = self.run, self.verified
        session: RowRunner = (
            self.version.runner if self.version else EncoderEngine(verified.file, verified.graph, choose_provider("cpu"))
        )
        try:
            page = write_run_report(folder, self.prepared, self.reference, verified, session, run.run_folder.path, sections)
        except Exception as error:  # whatever it is: the model is published, and nothing of it depends on its report
            run.say("", f"no report was written: {error}")
            return None
        run.say("report", str(page))
        return page


def request_of(training: TrainingTask, examples: Sequence[Example]) -> dict[str, Any]:
    """The fields of a held-out item that is easily typed: of the first ones the first that is short, else the shortest."""
    served = installed_tasks()[training.name].fields  # training may compare an item with others
    items = [
        {field: value for field, value in training.item_fields(example.item).items() if field in served}
        for example in examples[:SHOWN_FROM]
    ]
    return min(items, key=lambda fields: max(EASILY_TYPED, len(json.dumps(fields))))
