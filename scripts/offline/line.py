"""The whole line: load > fine-tune > evaluate > export > optimize > compact > verify > card > publish."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from app.core.manifest import DriftReference
from app.core.release import check_name
from app.runtime.providers import choose_provider
from app.runtime.session import OnnxSession
from app.tasks.tokenizer import Tokenizer
from scripts.offline import pretrained
from scripts.offline.base_model import BaseModel
from scripts.offline.card import Story, write_card
from scripts.offline.corrections import read_corrections
from scripts.offline.evaluate import drift_reference
from scripts.offline.fine_tune import fine_tune
from scripts.offline.load import describe_broken, read_all
from scripts.offline.publish import Artefact, golden_answers, publish
from scripts.offline.recipe import Recipe, to_command
from scripts.offline.records import Record
from scripts.offline.reference import ask_torch
from scripts.offline.run_folder import RunFolder
from scripts.offline.spoken import describe_figures
from scripts.offline.tasks.base import Prepared
from scripts.offline.tasks.registry import offline_task
from scripts.offline.verified_graph import Say, VerifiedGraph, make_graph
from scripts.offline.verify import Reference


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model, and what is needed to feed it."""

    model: Any
    base: BaseModel
    tokenizer: str
    max_tokens: int
    cost: dict[str, Any]


@dataclass(frozen=True)
class Published:
    """What the line made."""

    folder: Path
    evaluation: dict[str, Any]
    request: dict[str, Any]
    """An item to try it with."""


class Line:
    """One run of one recipe; every method is an arrow or a few."""

    def __init__(self, recipe: Recipe, recipe_file: Path | None, say: Say, script: str = "") -> None:
        """
        Args:
            recipe: what is made.
            recipe_file: where the recipe was read from, for the card.
            say: told each arrow.
            script: the Python that repeats this run, for the card, where no `hooper train` line does.
        """
        check_name(recipe.name)
        self.recipe, self.recipe_file, self.say, self.script = recipe, recipe_file, say, script
        self.offline = offline_task(recipe.task)
        self.run_folder = RunFolder(Path(recipe.runs) / recipe.name)
        self.is_trained = False
        """Whether the fine-tuned model is on disk: from then on a failure costs no training."""

    def run(self, resume: bool) -> Published:
        """All arrows, from data to a published version."""
        prepared = self.load(read_all(self.recipe))
        trained = self.train(prepared, resume)
        return self.export(prepared, trained, self.evaluate(prepared, trained))

    def load(self, records: Mapping[str, list[Record]]) -> Prepared:
        """Records of each source become the examples to train on and those held out."""
        corrections = read_corrections(self.recipe)
        prepared = self.offline.prepare(self.recipe, {**records, **corrections.records})
        dataset = prepared.dataset
        if self.recipe.from_feedback:
            said = (
                f"{dataset.num_corrections:,} corrections are trained on, in place of {dataset.num_replaced:,} rows of the data"
            )
            prepared = replace(prepared, notes=[*prepared.notes, said, *corrections.notes])
        self.say("load", f"{len(dataset.train):,} rows to train on, {len(dataset.validation):,} held out")
        for note in prepared.notes:
            self.say("", note)
        if dataset.broken:
            self.say("", describe_broken(dataset.broken))
        if dataset.num_leaked:
            self.say("", f"{dataset.num_leaked} training rows left out: the same item is held out")
        return prepared

    def train(self, prepared: Prepared, resume: bool, start: pretrained.Start | None = None) -> Trained:
        """Fine-tune from `start`, by default the recipe's base model, or go on from what an earlier run left."""
        recipe, options, dataset = self.recipe, prepared.task_options, prepared.dataset
        if resume:
            self.run_folder.check_same(recipe, dataset)
        start = start or pretrained.find_start(recipe.base_model)
        base, definition = start.base, start.tokenizer
        torch.manual_seed(recipe.seed)  # the head is drawn here
        model = pretrained.load_model(recipe, self.offline, options, base)
        limit = pretrained.longest_input(model.config)
        texts = self.offline.sample_texts(dataset.train)
        max_tokens = pretrained.choose_max_tokens(recipe, definition, texts, limit)
        self.say("fine-tune", f"{base.name}, inputs of up to {max_tokens} tokens")
        if resume and self.run_folder.is_finished:
            self.say("", f"finished before: {self.run_folder.final}")
        else:
            self._fine_tune(model, prepared, Tokenizer(definition, max_tokens), resume)
        # loaded again: what is evaluated is what was saved, and the trainer leaves its model in bf16 autocast
        model = pretrained.load_finished(self.offline, options, self.run_folder.final)
        self.is_trained = True
        return Trained(model.to(_device()), base, definition, max_tokens, self.run_folder.cost)

    def evaluate(self, prepared: Prepared, trained: Trained) -> Reference:
        """The torch model's answers to what it has not seen: figures now, and the reference for parity later."""
        tokenizer = Tokenizer(trained.tokenizer, trained.max_tokens)
        examples = prepared.dataset.validation
        reference = ask_torch(self.offline, trained.model, tokenizer, prepared.task_options, examples)
        figures = self.offline.evaluate(reference.predictions.answers, examples, reference.task_options)
        self.say("evaluate", describe_figures(figures["headline"]))
        return reference

    def export(self, prepared: Prepared, trained: Trained, reference: Reference) -> Published:
        """export > optimize > verify > compact > verify > card > publish."""
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            storage, axis = self.recipe.storage, self.offline.output_axis
            verified = make_graph(trained.model, axis, storage, reference, Path(folder), self.say)
            return self.publish(prepared, trained, reference, verified)

    def publish(self, prepared: Prepared, trained: Trained, reference: Reference, verified: VerifiedGraph) -> Published:
        """card > publish, with the figures of the very graph that is published."""
        recipe = self.recipe
        evaluation = self._evaluation(prepared, trained, reference, verified)
        requests = self.offline.golden_items(recipe)
        session = OnnxSession(verified.file, verified.graph, choose_provider("cpu"))
        artefact = Artefact(
            name=recipe.name,
            task=recipe.task,
            description=recipe.description,
            license=recipe.license,
            base_model=trained.base.name,
            max_tokens=trained.max_tokens,
            graph_file=verified.file,
            graph=verified.graph,
            variants=verified.variants,
            tokenizer=trained.tokenizer,
            task_options=reference.task_options,
            parity=verified.parity,
            evaluation=evaluation,
            golden=golden_answers(self.offline, reference.task, requests, session),
            card=self._card(prepared, trained, verified, evaluation),
            reference=self._drift_reference(trained, reference, verified),
        )
        folder = publish(artefact, Path(recipe.models))
        self.say("publish", str(folder))
        return Published(folder, evaluation, requests[0])

    def _fine_tune(self, model: Any, prepared: Prepared, tokenizer: Tokenizer, resume: bool) -> None:
        checkpoint = self.run_folder.last_checkpoint if resume else None
        if checkpoint is not None:
            self.say("", f"going on from {checkpoint}")
        elif resume:
            self.say("", f"{self.run_folder.path} has no checkpoint yet: from the beginning")
        else:
            self.run_folder.start(self.recipe, prepared.dataset)
        rows = self.offline.training_rows(prepared.dataset.train, tokenizer, prepared.task_options)
        cost = fine_tune(self.recipe, self.offline, model, rows, self.run_folder, resume)
        self.run_folder.save_final(model, cost)
        self.say("", f"{cost['updates']:,} updates in {cost['seconds'] / 60:.1f} min, mean loss {cost['loss']}")

    def _evaluation(
        self, prepared: Prepared, trained: Trained, reference: Reference, verified: VerifiedGraph
    ) -> dict[str, Any]:
        dataset = prepared.dataset
        figures = self.offline.evaluate(verified.predictions.answers, dataset.validation, reference.task_options)
        return {
            **figures,
            **({"calibration": dict(reference.calibration)} if reference.calibration else {}),
            "parity": {name: one.model_dump() for name, one in verified.parity.items()},
            "parity_before_compaction": verified.exported.model_dump(),
            "data": {
                "trained_on": len(dataset.train),
                "held_out": len(dataset.validation),
                "broken": len(dataset.broken),
                "left_out_because_held_out": dataset.num_leaked,
                **({"corrections": dataset.num_corrections} if self.recipe.from_feedback else {}),
            },
            "training": trained.cost,
            **({"script": self.script} if self.script else {"command": to_command(self.recipe, self.recipe_file)}),
        }

    def _drift_reference(self, trained: Trained, reference: Reference, verified: VerifiedGraph) -> DriftReference:
        tokenizer = Tokenizer(trained.tokenizer, trained.max_tokens)
        return drift_reference(reference.task, self.offline.serving_options(), tokenizer, verified.predictions)

    def _card(self, prepared: Prepared, trained: Trained, verified: VerifiedGraph, evaluation: dict[str, Any]) -> str:
        parity = dict(verified.parity)
        if self.recipe.storage != "fp32":
            parity = {"before compaction": verified.exported, **parity}
        return write_card(
            Story(
                recipe=self.recipe,
                base_model=trained.base.name,
                dataset=prepared.dataset,
                max_tokens=trained.max_tokens,
                num_bytes=verified.file.stat().st_size,
                evaluation=evaluation,
                parity=parity,
                cost=trained.cost,
                command=self.script or evaluation["command"],
                language="python" if self.script else "sh",
                notes=prepared.notes,
            )
        )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
