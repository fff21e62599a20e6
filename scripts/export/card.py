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
SCORES = "## Scores"
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
        *describe_scores(card.evaluation.get("calibration", {})),
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
        source: the checkpoint, as it was named.
        max_tokens: of its longest input.
        evaluation: its figures, where labelled texts were given.
        parity: precision to its agreement with PyTorch.
    """
    default = f"A model for {task}, made from {source}."
    sections = [
        *_head(recipe, default, num_bytes, max_tokens, "Trained elsewhere, served by Hooper."),
        *(_metrics(evaluation, OF_THE_MAKER) if evaluation["headline"] else [UNMEASURED]),
        *describe_scores(evaluation.get("calibration", {})),
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
    return paragraphs


def describe_scores(calibration: Mapping[str, Any]) -> list[str]:
    """The section on what scores mean, from what evaluation.json says of it; nothing where it says nothing."""
    if not calibration:
        return []
    paragraphs = [SCORES]
    if "rows_wanted" in calibration:
        paragraphs.append(
            f"Scores are not calibrated, and how far they are from probabilities is not known: {calibration['rows']:,} labelled"
            f" rows were held out, {calibration['rows_wanted']} are wanted."
        )
    if "expected_calibration_error" in calibration:
        paragraphs += _calibration(calibration)
    if "selective" in calibration:
        paragraphs.append(_selective(calibration["selective"]))
    if "no_answer" in calibration:
        paragraphs.append(_no_answer(calibration["no_answer"]))
    if "thresholds" in calibration:
        paragraphs += _thresholds(calibration["thresholds"])
    return paragraphs


def _calibration(figures: Mapping[str, Any]) -> list[str]:
    how = "Scores are those of the logits as they are: nothing that was fitted helped other rows."
    if "temperature" in figures:
        how = f"Scores are calibrated: the logits are divided by a temperature of {figures['temperature']:g}."
    if "score_slope" in figures:
        floor, ceiling = figures.get("score_floor", 0.0), figures.get("score_ceiling", 1.0)
        limits = f", between a floor of {floor:g} and a ceiling of {ceiling:g}" if (floor, ceiling) != (0, 1) else ""
        line = f"log-odds times {figures['score_slope']:g}, {figures.get('score_intercept', 0.0):+g}"
        how = f"Scores are calibrated by Platt scaling: {line}{limits}."
    error, before = (figures[f"expected_calibration_error{which}"] for which in ("", "_before"))
    changed = f" ({before:.4f} without)" if before != error else ""
    chance = figures["expected_calibration_error_by_chance"]
    paragraph = (
        f"{how} The expected calibration error (mean distance between score and share of right answers, 15 bins) is"
        f" {error:.4f}{changed}; scores that are exact would have {chance:.4f} by chance on as many answers"
        f" ({figures['rows']:,} rows; {figures['method']})."
    )
    sources = figures["by_source"]
    by_source = [[source, entry["expected_calibration_error"], entry["answers"]] for source, entry in sources.items()]
    tables = [_table(["rows from", "expected calibration error", "answers"], by_source)] if len(sources) > 1 else []
    bins = [[f"{entry['score']:.3f}", f"{entry['right']:.3f}", entry["rows"]] for entry in figures["bins"]]
    return [paragraph, *tables, _table(["mean score", "share that is right", "answers"], bins)]


def _selective(figures: Mapping[str, Any]) -> str:
    if figures["score"] is None:
        return f"There is no score from which on {100 * figures['wanted']:.3g} % of the answers are right."
    accuracy, wanted, share = (f"{100 * figures[name]:.3g} %" for name in ("accuracy", "wanted", "share"))
    return (
        f"Answers with a score of at least {figures['score']:g} are right in {accuracy} of the cases ({wanted} were"
        f" wanted), and {share} of all answers have such a score: leave the others to a person (the score is fitted on one"
        f" half of {figures['rows']:,} held-out answers and the figures are measured on the other, both ways)."
    )


def _no_answer(figures: Mapping[str, Any]) -> str:
    before, after = figures["before"], figures["after"]
    return (
        f"Where the context may hold no answer (`allow_no_answer`), F1 is {after['f1']:.2f} on {figures['rows']:,} questions of"
        f" which every second has none: {after['f1_answered']:.2f} where there is one, and {after['f1_unanswered']:.2f} %"
        f" of the others are refused. `no_answer_score` is scaled for that: log-odds times {figures['no_answer_slope']:g},"
        f" {figures['no_answer_intercept']:+g}, fitted on one half and measured on the other, both ways. Its expected"
        f" calibration error is {after['expected_calibration_error']:.4f}"
        f" ({before['expected_calibration_error']:.4f} without; F1 {before['f1']:.2f})."
    )


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
        parity: with the graphs in fp32.
        comparison: the same in words.
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
