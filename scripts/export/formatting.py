"""What the terminal shows: stages of the pipeline, and metrics as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from app.core.manifest import Parity

Say = Callable[[str, str], None]
"""Tells the person which stage the pipeline is at, and what came of it."""
_NAMES = {
    "macro_f1": "macro F1",
    "f1": "F1",
    "v2_exact_match": "EM with unanswerable questions",
    "v2_f1": "F1 with unanswerable questions",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeLsum": "ROUGE-Lsum",
    "lead3": "lead-3",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def metric_name(key: str) -> str:
    """`macro_f1` -> `macro F1`, `lead3_rouge1` -> `lead-3 ROUGE-1`."""
    if key in _NAMES:
        return _NAMES[key]
    first, _, rest = key.partition("_")
    if rest in _NAMES:
        return f"{_NAMES.get(first, first)} {_NAMES[rest]}"
    return key.replace("_", " ")


def say(stage: str, text: str) -> None:
    """Print which stage the pipeline is at, and what came of it."""
    print(f"{stage:<11}{text}", flush=True)


def format_value(value: Any) -> str:
    """Shares with four digits, percentages with two, counts with commas."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with the cells of each column below each other."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)


def describe_metrics(headline: Mapping[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str:
    """`accuracy 0.9123, macro F1 0.9120, on 2,148 held-out rows`"""
    metrics = [
        f"{names.get(key) or metric_name(key)} {format_value(value)}" for key, value in headline.items() if key != "rows"
    ]
    return f"{', '.join(metrics)}, on {headline['rows']:,} held-out rows"


def describe_perplexity(figures: Mapping[str, Any]) -> str:
    """A sentence for the terminal, the card and the report.

    Args:
        figures: as `measure_perplexity` has them, and perhaps `before` training.
    """
    before = f", {figures['before']:,g} before training" if "before" in figures else ""
    return (
        f"perplexity of the targets {figures['perplexity']:,g} per token{before}: {figures['tokens']:,} tokens of"
        f" {figures['rows']:,} held-out rows, ends included, in PyTorch; {figures['bits_per_byte']:g} bits per byte"
    )


def describe_cost(cost: Mapping[str, Any]) -> list[str]:
    """What fine-tuning cost, and what decided how long it lasted."""
    updates = f"{cost['updates']:,} updates in {cost['seconds'] / 60:.1f} min, mean loss {cost['loss']}"
    return [updates, *describe_decisions(cost)]


def describe_decisions(cost: Mapping[str, Any]) -> list[str]:
    """What was decided while it ran, and by what."""
    sentences = []
    if "probe" in cost:
        sentences.append(describe_probe(cost["probe"]))
    if "autofit" in cost:
        tuned = cost["autofit"]
        sentences.append(
            f"best model: loss {tuned['best_loss']} on the validation split of {tuned['rows_set_aside']:,} training rows,"
            f" after {tuned['best_update']:,} updates"
        )
    if "averaged_after_updates" in cost:
        places = ", ".join(f"{update:,}" for update in cost["averaged_after_updates"])
        sentences.append(f"the weights are the mean of those after {places} updates")
    if "budget" in cost:
        sentences.append(f"{cost['epochs']:g} epochs fitted into a budget of {cost['budget']['asked']}")
    return sentences


def describe_beginning(beginning: Mapping[str, Any]) -> str:
    """What of a published version a training goes on from, as `Pipeline` writes it down."""
    rounded = "" if beginning["storage"] == "fp32" else f" as they were rounded to {beginning['storage']}"
    head = "its head" if beginning["head_kept"] else "a new head"
    license_note = f"; its licence: {beginning['license']}" if beginning["license"] else ""
    return (
        f"training goes on from {beginning['version']} (made from {beginning['base_model']}): its weights{rounded}, {head},"
        f" a new optimizer{license_note}"
    )


def describe_probe(probe: Mapping[str, Any]) -> str:
    """How the head began, from a `Probe` of `scripts.training.small_data` as a mapping."""
    judged = f" (C = {probe['strength']:g}"
    if probe["accuracy"] is not None:
        judged += f", accuracy {format_value(probe['accuracy'])} in {probe['folds']}-fold cross-validation on the training rows"
    return f"the head began as a linear probe of the frozen base model{judged}), then all weights were trained"


def describe_parity(parity: Parity, reference: str = "PyTorch") -> str:
    """`same prediction as PyTorch: 99.85 % (1,998 rows), largest logit error 0.35`"""
    share = f"{100 * parity.agreement_to_show:.4g} % ({parity.rows:,} rows)"
    ties = f", {parity.ties} of the {parity.num_differing} that differ are ties" if parity.ties else ""
    return f"same prediction as {reference}: {share}{ties}, largest logit error {parity.max_abs_error:.2g}"


def without_option(words: Sequence[str], name: str) -> list[str]:
    """The words without an option and its value."""
    kept = [word for word, before in zip(words, ["", *words], strict=False) if name not in (word, before)]
    return [word for word in kept if not word.startswith(f"{name}=")]
