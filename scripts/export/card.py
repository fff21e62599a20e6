"""card: README.md of a published version: what it is, how good, made from what, at which cost, with which limits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.manifest import Parity
from scripts.export.formatting import describe_decisions, format_value, metric_name
from scripts.tasks import training_task
from scripts.training.data import Dataset, default_name
from scripts.training.recipe import Recipe

MOST_CLASSES = 30
WORST_CLASSES = 20
NAMED = 20
"""Broken rows named in the card."""


@dataclass(frozen=True)
class CardInput:
    """All that a card tells. None of it is text from the data: only where rows stand, and how many."""

    recipe: Recipe
    base_model: str
    dataset: Dataset
    max_tokens: int
    num_bytes: int
    """Size of the graph file."""
    evaluation: Mapping[str, Any]
    parity: Mapping[str, Parity]
    cost: Mapping[str, Any]
    command: str
    """What repeats it: a line for the shell or, with the language `python`, a script."""
    language: str = "sh"
    notes: Sequence[str] = ()


def write_card(card: CardInput) -> str:
    """The card as markdown with the front matter of the Hugging Face hub."""
    recipe = card.recipe
    sections = [
        f"# {recipe.name}",
        recipe.description or f"A model for {recipe.task}, fine-tuned from {card.base_model}.",
        f"{card.num_bytes / 1e6:.1f} MB, reads up to {card.max_tokens} tokens. Made and served by Hooper.",
        "## Figures",
        figures_of(card.evaluation),
        *classes_of(card.evaluation.get("per_class", {})),
        *calibration_of(card.evaluation.get("calibration", {})),
        "These figures repeat with",
        f"```{card.language}\n{card.command}\n```",
        "## Data",
        *_data(card),
        "## Training",
        _training(card),
        "## Agreement with the torch model",
        parity_of(card.parity, "the rows held out"),
        "## Limits",
        recipe.limits or "None were stated by the maker.",
    ]
    return f"---\n{_front_matter(card)}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(card: CardInput) -> str:
    recipe = card.recipe
    sources = dict.fromkeys(default_name(source) for source in [*recipe.data, *recipe.validation])
    fields = {
        **license_of(recipe.license),
        "pipeline_tag": recipe.task,
        "base_model": card.base_model,
        "datasets": list(sources),
        "metrics": training_task(recipe.task).hub_metrics(card.evaluation["headline"]),
    }
    return front_matter(fields)


def front_matter(fields: Mapping[str, Any]) -> str:
    """Lines of YAML."""
    fields = {**fields, "library_name": "onnx"}
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items())  # JSON is YAML


def license_of(words: str) -> dict[str, str]:
    if not words:
        return {}
    if re.fullmatch(r"[A-Za-z0-9.+-]+", words):
        return {"license": words.lower()}
    return {"license": "other", "license_name": words}  # the hub's own identifiers have no room for a condition


def figures_of(evaluation: Mapping[str, Any], said: str = "On rows that training did not see") -> str:
    headline = evaluation["headline"]
    rows = [["all", *headline.values()]]
    rows += [[source, *(figures.get(key, "") for key in headline)] for source, figures in evaluation["by_source"].items()]
    return f"{said}:\n\n" + _table(["rows from", *map(metric_name, headline)], rows)


def classes_of(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not per_class:
        return []
    shown = list(per_class.items())
    said = "Per class:"
    if len(shown) > MOST_CLASSES:
        shown = sorted(shown, key=lambda one: one[1]["f1"])[:WORST_CLASSES]
        said = f"The {WORST_CLASSES} worst of {len(per_class)} classes by F1 (all of them are in evaluation.json):"
    keys = list(shown[0][1])
    return [f"{said}\n\n" + _table(["class", *map(metric_name, keys)], [[name, *one.values()] for name, one in shown])]


def calibration_of(figures: Mapping[str, Any]) -> list[str]:
    if not figures:
        return []
    return [
        (
            f"Scores are calibrated: the logits are divided by a temperature of {figures['temperature']:g}, fitted on held-out"
            f" rows. The expected calibration error is {figures['expected_calibration_error']:.4f} (without the temperature"
            f" {figures['expected_calibration_error_before']:.4f}; {figures['method']}, {figures['rows']:,} rows)."
        )
    ]


def _data(card: CardInput) -> list[str]:
    dataset = card.dataset
    held_out = Counter(one.source for one in dataset.validation)
    trained = Counter(one.source for one in dataset.train)
    rows = [[source, trained[source], held_out[source]] for source in dict.fromkeys([*trained, *held_out])]
    said = [_table(["source", "rows trained on", "rows held out"], rows)]
    said += [f"{note[0].upper()}{note[1:]}." for note in card.notes if note]
    if dataset.num_leaked:
        said.append(f"{dataset.num_leaked} rows were left out of training because the same item is held out.")
    return [*said, _broken(dataset)]


def _broken(dataset: Dataset) -> str:
    broken = dataset.broken
    if not broken:
        return "No broken rows."
    named = "\n".join(f"- {one.where}: {one.why}" for one in broken[:NAMED])
    more = f"\n- and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return f"{len(broken)} broken rows were left out:\n\n{named}{more}"


def _training(card: CardInput) -> str:
    cost = card.cost
    if not cost:
        return f"Fine-tuned from {card.base_model}; what it cost was not written down."
    epochs = f"{cost['epochs']:g} epoch{'s' if cost['epochs'] != 1 else ''}"
    said = (
        f"Fine-tuned from {card.base_model}: {epochs}, {cost['updates']:,} updates of"
        f" {card.recipe.batch_size} rows, {cost['precision']}, {cost['seconds'] / 60:.1f} minutes, mean loss {cost['loss']}."
    )
    said += "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in describe_decisions(cost))
    after = cost.get("resumed_after_updates")
    return f"{said} The run was interrupted; the time is that of the part after update {after:,}." if after else said


def parity_of(parity: Mapping[str, Parity], texts: str) -> str:
    rows = [
        [name, one.rows, f"{one.agreement_to_show:.4f}", f"{one.max_abs_error:.2g}", "yes" if one.passed else "no"]
        for name, one in parity.items()
    ]
    said = f"The published files, run by the code that serves them, against torch in fp32 on {texts}:"
    if "fp16" in parity:
        said = f"{said[:-1]}. For fp16, which is for GPUs, each result was rounded to fp16 on a processor:"
    return f"{said}\n\n" + _table(["way of running", "rows", "same decision", "largest logit error", "passed"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return format_value(value).replace("|", "\\|").replace("\n", " ")
