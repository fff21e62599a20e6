"""README.md of a published version: what it is, how good, made from what, at which cost, with which limits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from app.core.manifest import Parity
from app.core.types import Precision
from scripts.export.formatting import describe_beginning, describe_decisions, describe_perplexity, format_value, metric_name
from scripts.tasks import training_task
from scripts.training.baselines import unbeaten
from scripts.training.data import Dataset, default_name
from scripts.training.recipe import Recipe

MAX_CLASSES, WORST_CLASSES = 30, 20
UNMEASURED = "No figures were measured: no labelled texts were given. How good this model is, is not known here."
OF_THE_MAKER = "On texts that the maker gave (whether the checkpoint was trained on them is not known here)"
MAX_INVALID_ROWS = 20
"""Invalid rows that the card names."""


@dataclass(frozen=True)
class CardInput:
    """All that a card says. None of it is text from the data: only where rows stand, and how many."""

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
    """The card of a model that was trained here."""
    recipe = card.recipe
    sources = dict.fromkeys(default_name(source) for source in [*recipe.data, *recipe.validation])
    fields = {
        "datasets": list(sources),
        "metrics": training_task(recipe.task).hub_metrics(),
    }
    default = f"A model for {recipe.task}, fine-tuned from {card.base_model}."
    sections = [
        *_head(recipe, default, card.num_bytes, card.max_tokens, "Made and served by Hooper."),
        *_metrics(card.evaluation, "On rows that training did not see"),
        *_baselines(card.evaluation),
        "These figures repeat with",
        f"```{card.language}\n{card.command}\n```",
        "## Data",
        *_data(card),
        "## Training",
        _training(card),
        *_parity(card.parity, "the rows held out"),
        *_limits(recipe),
    ]
    return _markdown(recipe, recipe.task, card.base_model, sections, fields)


def write_imported_card(
    recipe: Recipe,
    task: str,
    source: str,
    max_tokens: int,
    num_bytes: int,
    evaluation: Mapping[str, Any],
    origin: Sequence[str],
    parity: Mapping[str, Parity],
    compared_on: str,
) -> str:
    """The card of a checkpoint that was trained elsewhere: what is known of it, and what was not measured.

    Args:
        recipe: its name, description, licence and limits.
        task: what it is for.
        source: the checkpoint, as it was named.
        max_tokens: of its longest input.
        num_bytes: of its graph.
        evaluation: its figures, where labelled texts were given.
        origin: paragraphs on the checkpoint.
        parity: precision to its agreement with PyTorch.
        compared_on: the texts that it was compared on.
    """
    default = f"A model for {task}, made from {source}."
    sections = [
        *_head(recipe, default, num_bytes, max_tokens, "Trained elsewhere, served by Hooper."),
        *(_metrics(evaluation, OF_THE_MAKER) if evaluation["headline"] else [UNMEASURED]),
        "## Origin",
        *origin,
        "What it was trained on is not known here.",
        *_parity(parity, compared_on),
        *_limits(recipe),
    ]
    return _markdown(recipe, task, source, sections, {})


def _markdown(recipe: Recipe, task: str, base_model: str, sections: Sequence[str], more: Mapping[str, Any]) -> str:
    """With the front matter of the Hugging Face hub."""
    license_fields = {}
    if recipe.license:
        # the hub's own identifiers have no room for a condition
        is_identifier = re.fullmatch(r"[A-Za-z0-9.+-]+", recipe.license)
        license_fields = (
            {"license": recipe.license.lower()} if is_identifier else {"license": "other", "license_name": recipe.license}
        )
    fields = {**license_fields, "pipeline_tag": task, "base_model": base_model, **more, "library_name": "onnx"}
    yaml = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items())  # JSON is YAML
    return f"---\n{yaml}---\n\n" + "\n\n".join(sections) + "\n"


def _head(recipe: Recipe, default: str, num_bytes: int, max_tokens: int, by: str) -> list[str]:
    facts = f"{num_bytes / 1e6:.1f} MB. Max input length: {max_tokens} tokens. {by}"
    return [f"# {recipe.name}", recipe.description or default, facts, "## Figures"]


def _limits(recipe: Recipe) -> list[str]:
    return ["## Limits", recipe.limits or "None were stated by the maker."]


def _metrics(evaluation: Mapping[str, Any], measured_on: str) -> list[str]:
    headline, names = evaluation["headline"], evaluation.get("metric_names", {})
    rows = [["all", *headline.values()]]
    rows += [[source, *(metrics.get(key, "") for key in headline)] for source, metrics in evaluation["by_source"].items()]
    paragraphs = [
        f"{measured_on}:\n\n" + _table(["rows from", *(names.get(key) or metric_name(key) for key in headline)], rows)
    ]
    if intervals := evaluation.get("intervals"):
        spans = [f"{names.get(key) or metric_name(key)} {low} to {high}" for key, (low, high) in intervals.items()]
        paragraphs.append(f"95 % intervals over all rows (bootstrap): {', '.join(spans)}.")
    if perplexity := evaluation.get("perplexity"):
        sentence = describe_perplexity(perplexity)
        paragraphs.append(f"{sentence[0].upper()}{sentence[1:]}.")
    classes = list(evaluation.get("per_class", {}).items())
    if classes:
        title = "Per class:"
        if len(classes) > MAX_CLASSES:
            title = f"The {WORST_CLASSES} worst of {len(classes)} classes by F1 (all of them are in evaluation.json):"
            classes = sorted(classes, key=lambda item: item[1]["f1"])[:WORST_CLASSES]
        header = ["class", *map(metric_name, classes[0][1])]
        paragraphs.append(f"{title}\n\n" + _table(header, [[label, *metrics.values()] for label, metrics in classes]))
    calibration = evaluation.get("calibration", {})
    if "temperature" in calibration:
        paragraphs.append(
            f"Scores are calibrated: the logits are divided by a temperature of {calibration['temperature']:g}, fitted on"
            f" held-out rows. The expected calibration error is {calibration['expected_calibration_error']:.4f} after"
            f" temperature scaling, {calibration['expected_calibration_error_before']:.4f} before"
            f" ({calibration['method']}, {calibration['rows']:,} rows)."
        )
    if selective := calibration.get("selective"):
        accuracy, wanted, share = (f"{100 * selective[name]:.3g} %" for name in ("accuracy", "wanted", "share"))
        paragraphs.append(
            f"Answers with a score of at least {selective['score']:g} are right in {accuracy} of the cases ({wanted} were"
            f" wanted), and {share} of all answers have such a score: leave the others to a person (the score"
            f" is fitted on one half of {selective['rows']:,} held-out rows and the figures are measured on the other, both"
            " ways)."
        )
    if "thresholds" in calibration:
        paragraphs += _thresholds(calibration["thresholds"])
    return paragraphs


def _thresholds(metrics: Mapping[str, Any]) -> list[str]:
    """By how much they help, on rows that they were not fitted on."""
    labels = metrics["per_label"]
    paragraph = (
        "The figures above count a label from a score of 0.5 on. The model has a threshold for each label, that of the best F1"
        f" on the held-out rows, by which the service says whether a label is `selected`. Macro F1 is {metrics['macro_f1']:.4f}"
        f" at these thresholds, {metrics['macro_f1_at_half']:.4f} at 0.5; subset accuracy {metrics['accuracy']:.4f},"
        f" {metrics['accuracy_at_half']:.4f} at 0.5 (each half of the rows under thresholds fitted on the other half)."
    )
    if len(labels) > MAX_CLASSES:
        return [f"{paragraph} All {len(labels)} thresholds are in evaluation.json."]
    rows = [[entry["label"], f"{entry['threshold']:g}", entry["f1_at_half"], entry["f1"], entry["rows"]] for entry in labels]
    return [paragraph, "Best threshold per label:\n\n" + _table(["label", "threshold", "F1 at 0.5", "F1", "rows"], rows)]


def _baselines(evaluation: Mapping[str, Any]) -> list[str]:
    """Methods without a transformer beside the model, and where it is not clearly better."""
    baselines = evaluation.get("baselines", {})
    if not baselines:
        return []
    metrics = list(next(iter(baselines.values()))["headline"])
    rows = [["this model", *(evaluation["headline"][key] for key in metrics)]]
    rows += [[name, *(result["headline"][key] for key in metrics)] for name, result in baselines.items()]
    names = evaluation.get("metric_names", {})
    sentences = "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in unbeaten(baselines, names))
    header = ["", *(names.get(key) or metric_name(key) for key in metrics)]
    return [
        f"Baselines, on the same rows:\n\n{_table(header, rows)}",
        *filter(None, [sentences.strip()]),
    ]


def _data(card: CardInput) -> list[str]:
    dataset, invalid = card.dataset, card.dataset.broken
    held_out = Counter(example.source for example in dataset.validation)
    trained = Counter(example.source for example in dataset.train)
    rows = [[source, trained[source], held_out[source]] for source in dict.fromkeys([*trained, *held_out])]
    paragraphs = [_table(["source", "training rows", "validation rows"], rows)]
    paragraphs += [f"{note[0].upper()}{note[1:]}." for note in card.notes if note]
    if dataset.num_leaked:
        paragraphs.append(f"{dataset.num_leaked} training rows removed: also in the validation set (leakage).")
    if not invalid:
        return [*paragraphs, "No invalid rows."]
    listing = "\n".join(f"- {row.where}: {row.why}" for row in invalid[:MAX_INVALID_ROWS])
    more = f"\n- and {len(invalid) - MAX_INVALID_ROWS} more" if len(invalid) > MAX_INVALID_ROWS else ""
    return [*paragraphs, f"{len(invalid)} invalid rows were left out:\n\n{listing}{more}"]


def _training(card: CardInput) -> str:
    cost = card.cost
    if not cost:
        return f"Fine-tuned from {card.base_model}; what it cost was not written down."
    epochs = f"{cost['epochs']:g} epoch{'s' if cost['epochs'] != 1 else ''}"
    batch_size = cost.get("batch_size", card.recipe.update_size)  # costs of earlier releases lack it
    text = (
        f"Fine-tuned from {card.base_model}: {epochs}, {cost['updates']:,} updates of"
        f" {batch_size} rows, {cost['precision']}, {cost['seconds'] / 60:.1f} minutes, mean loss {cost['loss']}."
    )
    sentences = [*([describe_beginning(cost["beginning"])] if "beginning" in cost else []), *describe_decisions(cost)]
    text += "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    after = cost.get("resumed_after_updates")
    return f"{text} The run was interrupted; the time is that of the part after update {after:,}." if after else text


def _parity(parity: Mapping[str, Parity], compared_on: str) -> list[str]:
    rows = [
        [
            name,
            measured.rows,
            f"{measured.agreement_to_show:.4f}",
            _interval(measured),
            measured.ties,
            f"{measured.max_abs_error:.2g}",
            _yes(measured.passed),
        ]
        for name, measured in parity.items()
    ]
    text = f"The published files, run by the code that serves them, against PyTorch in fp32 on {compared_on}"
    if "fp16" in parity:
        text = f"{text}. For fp16, which is for GPUs, each result was rounded to fp16 on a processor"
    header = ["precision", "rows", "same prediction", "95 % interval", "ties", "largest logit error", "passed"]
    return ["## Agreement with PyTorch", f"{text}:\n\n" + _table(header, rows)]


def describe_form(precision: Precision, parity: Parity, comparison: str, compared_on: str) -> str:
    """The section of a card on a form of the decoder that was added later.

    Args:
        precision: of the form.
        parity: with the graphs in fp32.
        comparison: the same in words.
        compared_on: the texts that it was compared on.
    """
    compared = f"The decoder's step in {precision} beside the same in fp32, on {compared_on}: {comparison}."
    paragraphs = [f"\n## In {precision}", compared]
    if parity.perplexity_loss is not None:
        paragraphs.append(f"The perplexity of these texts changes by {100 * parity.perplexity_loss:+.1f} %.")
    if not parity.passed and parity.accepted_loss is not None:
        paragraphs.append(
            "This does not pass the gate for forms that are used by themselves. Whoever published it accepted a perplexity up"
            f" to {100 * parity.accepted_loss:g} % higher: `HOOPER_PRECISION={precision}` takes it."
        )
    return "\n\n".join(paragraphs) + "\n"


def _interval(parity: Parity) -> str:
    """Of the share with the same prediction, by Wilson's score."""
    result = binomtest(parity.rows - parity.num_differing, parity.rows).proportion_ci(method="wilson")
    return f"{result.low:.4f} to {result.high:.4f}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return format_value(value).replace("|", "\\|").replace("\n", " ")
