"""adopt: a checkpoint that somebody else trained becomes a published version, through the gate that ours pass."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.core.manifest import NO_REFERENCE, DriftReference
from app.core.release import check_name
from app.core.types import TaskName
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.tokenizer import Tokenizer
from scripts.export.card import calibration_of, classes_of, figures_of, front_matter, license_of, parity_of
from scripts.export.checkpoint import Checkpoint, open_checkpoint
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.formatting import describe_figures
from scripts.export.graph_files import num_bytes
from scripts.export.publish import Artefact, golden_answers, publish
from scripts.export.torch_reference import ask_torch
from scripts.export.trial_export import try_out
from scripts.export.verified_graph import Say, VerifiedGraph, describe_layout, make_graph
from scripts.tasks.registry import offline_task
from scripts.training.evaluation import drift_reference
from scripts.training.recipe import Recipe

Storage = Literal["int8", "fp16", "fp32"]


@dataclass(frozen=True)
class Wish:
    """What a person says about a checkpoint to publish."""

    source: str
    recipe: Recipe
    """Its name, description, licence and limits; `validation`, the texts to judge it on; where it is published."""
    task: TaskName | None
    labels: Sequence[str]
    storage: Storage | None
    """None: int8 where labelled texts show what that costs, else fp16, which rounds less."""
    command: str
    """The line that was typed, for the card."""


def adopt(wish: Wish, say: Say) -> Path:
    """load > export > evaluate > optimize > verify > compact > verify > card > publish.

    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the checkpoint or the texts cannot be used, and why.
        ParityFailed: the graph does not reproduce the checkpoint.
        ExportFailed: the architecture cannot become a graph.
    """
    check_name(wish.recipe.name)
    checkpoint = open_checkpoint(wish.source, wish.task, wish.labels, wish.recipe.max_tokens)
    say("load", f"{type(checkpoint.model).__name__} for {checkpoint.task}, inputs of up to {checkpoint.max_tokens} tokens")
    for note in checkpoint.notes:
        say("", note)
    offline = offline_task(checkpoint.task)
    texts = load_eval_data(offline, checkpoint.task_options, wish.recipe)
    say("", f"compared on {texts.origin}")
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens)
    model, options = checkpoint.model, checkpoint.task_options
    storage = wish.storage or ("int8" if texts.is_labelled else "fp16")
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        exported = try_out(model, offline, tokenizer, options, Path(folder))
        say("export", describe_layout(exported.graph))
        reference = ask_torch(offline, model, tokenizer, options, texts.examples, texts.is_labelled)
        if texts.is_labelled:
            figures = offline.evaluate(reference.predictions.answers, texts.examples, reference.task_options)
            say("evaluate", describe_figures(figures["headline"]))
        verified = make_graph(model, offline.output_axis, storage, reference, Path(folder), say, exported)
        made = publish(_artefact(wish, checkpoint, texts, reference, verified), Path(wish.recipe.models))
    say("publish", str(made))
    return made


def _artefact(wish: Wish, checkpoint: Checkpoint, texts: EvalData, reference: Any, verified: VerifiedGraph) -> Artefact:
    offline, recipe = reference.offline, wish.recipe
    evaluation: dict[str, Any] = {"headline": {}}
    if texts.is_labelled:
        evaluation = dict(offline.evaluate(verified.predictions.answers, texts.examples, reference.task_options))
        evaluation |= {"calibration": dict(reference.calibration)} if reference.calibration else {}
    evaluation["parity"] = {name: one.model_dump() for name, one in verified.parity.items()}
    evaluation["parity_before_compaction"] = verified.exported.model_dump()
    evaluation["command"] = wish.command
    session = EncoderEngine(verified.file, verified.graph, choose_provider("cpu"))
    return Artefact(
        name=recipe.name,
        task=checkpoint.task,
        description=recipe.description or f"A model for {checkpoint.task}, made from {checkpoint.source.name}.",
        license=recipe.license,
        base_model=checkpoint.source.name,
        max_tokens=checkpoint.max_tokens,
        graph_file=verified.file,
        graph=verified.graph,
        variants=verified.variants,
        engines=verified.engines,
        tokenizer=checkpoint.tokenizer,
        task_options=reference.task_options,
        parity=verified.parity,
        evaluation=evaluation,
        golden=golden_answers(offline, reference.task, offline.golden_items(recipe), session),
        card=write_adopted_card(wish, checkpoint, texts, verified, evaluation),
        reference=_drift_reference(checkpoint, texts, reference, verified),
    )


def _drift_reference(checkpoint: Checkpoint, texts: EvalData, reference: Any, verified: VerifiedGraph) -> DriftReference:
    """Of texts that somebody chose for this model; the built-in ones are like nobody's."""
    if not texts.is_own:
        return NO_REFERENCE
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens)
    return drift_reference(reference.task, reference.offline.serving_options(), tokenizer, verified.predictions)


def write_adopted_card(
    wish: Wish, checkpoint: Checkpoint, texts: EvalData, verified: VerifiedGraph, evaluation: Mapping[str, Any]
) -> str:
    """README.md of a checkpoint that was trained elsewhere: what is known of it, and what was not measured."""
    recipe, size = wish.recipe, num_bytes(verified.file)
    kind = type(checkpoint.model).__name__
    fields = {**license_of(recipe.license), "pipeline_tag": checkpoint.task, "base_model": checkpoint.source.name}
    sections = [
        f"# {recipe.name}",
        recipe.description or f"A model for {checkpoint.task}, made from {checkpoint.source.name}.",
        f"{size / 1e6:.1f} MB, reads up to {checkpoint.max_tokens} tokens. Trained elsewhere, served by Hooper.",
        "## Figures",
        *_figures(texts, evaluation),
        "## Origin",
        f"The checkpoint {checkpoint.source.name} ({kind}, {checkpoint.model.num_parameters():,} weights), published with",
        f"```sh\n{wish.command}\n```",
        *(f"{note[0].upper()}{note[1:]}." for note in checkpoint.notes),
        "What it was trained on is not known here.",
        "## Agreement with the torch model",
        parity_of({"before compaction": verified.exported, **verified.parity}, texts.origin),
        "## Limits",
        recipe.limits or "None were stated by the maker.",
    ]
    return f"---\n{front_matter(fields)}---\n\n" + "\n\n".join(sections) + "\n"


def _figures(texts: EvalData, evaluation: Mapping[str, Any]) -> list[str]:
    if not texts.is_labelled:
        return ["No figures were measured: no labelled texts were given. How good this model is, is not known here."]
    said = "On texts that the maker gave (whether the checkpoint was trained on them is not known here)"
    return [
        figures_of(evaluation, said),
        *classes_of(evaluation.get("per_class", {})),
        *calibration_of(evaluation.get("calibration", {})),
    ]


def as_command(arguments: Sequence[str]) -> str:
    return f"hooper models add {shlex.join(arguments)}"
