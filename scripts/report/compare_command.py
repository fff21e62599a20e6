"""`hooper compare`: two published versions side by side, without torch."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.core.command_line import FILE_OPTIONS, offline_errors, program, spread
from scripts.export.formatting import aligned, format_value, metric_name
from scripts.training.recipe import Recipe

RUNS = Path(Recipe().runs)
MOST_CHARACTERS = 300
LIKELY_CHANCE = 0.05
EXAMPLES = """\
  hooper compare sentiment/1 sentiment/2 --data dev.csv
  hooper compare sentiment/2 ./runs/try/3 --data dev.csv --json | jq .agreement
  hooper compare topics/1 topics/2                       on built-in texts: agreement and speed alone

Both answer the same texts through the service's own code. Labels are optional: with them you get metrics, the difference with
its 95 % interval, and who is correct where the predictions differ. Rows that one of them was trained on are counted, and the
metrics are given without them, too. The differing texts of which both are most confident come first.
"""


@program("hooper compare", EXAMPLES, offline_errors("hooper compare"))
@spread("reading", FILE_OPTIONS, dict)
def main(
    reading: dict[str, str],
    first: Annotated[str, typer.Argument(metavar="ONE", help="a published version, or a published folder's path")],
    second: Annotated[str, typer.Argument(metavar="OTHER", help="the one to compare it with")],
    data: Annotated[
        list[str] | None, typer.Option(metavar="FILE ...", help="texts, labelled or not; default: built-in ones")
    ] = None,
    limit: Annotated[
        int, typer.Option("--most", metavar="N", help="list at most so many texts on which the predictions differ")
    ] = 20,
    max_rows: Annotated[int, typer.Option(metavar="N", help="take so many rows, drawn at random; 0: all")] = 0,
    device: Annotated[Literal["auto", "cpu", "openvino", "cuda", "tensorrt"], typer.Option(help="what both run on")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    models: Annotated[Path, typer.Option(envvar="HOOPER_MODELS", metavar="PATH", help="model repository")] = Path("models"),
    runs: Annotated[Path, typer.Option(metavar="PATH", help="folder of the runs: they say which rows were trained on")] = RUNS,
    text_column: Annotated[str, typer.Option(metavar="NAME", help="column of the text; default: guessed")] = "",
    label_column: Annotated[str, typer.Option(metavar="NAME", help="column of the label; default: guessed, or none")] = "",
) -> int:
    """Compare two published versions: figures, agreement, speed, and the texts on which they differ."""
    from scripts.export.published import open_version
    from scripts.report.comparison import compare  # here: completion needs the options alone

    version, other = (open_version(name, models, device, may_write=True) for name in (first, second))
    columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column, "max_rows": max_rows, **reading}
    recipe = replace(Recipe(), task=version.manifest.task, validation=data or [], **columns)
    result = compare(version, other, recipe, limit, runs)
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else "\n".join(as_lines(result)))
    return 0


def as_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    yield f"{result['task']} on {result['data']}"
    yield ""
    yield from aligned([["", *result["versions"]], *_lines(result)])
    yield ""
    yield _agreement(result)
    yield from _on_training_rows(result)
    if result["differing"]:
        num_listed, count = len(result["differing"]), result["num_differing"]
        listed = "All" if num_listed == count else f"{num_listed} of {count:,}"
        yield f"{listed} texts on which the predictions differ, highest confidence first:"
    for match in result["differing"]:
        yield ""
        yield from _difference(result["versions"], match)


def _lines(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Figures on these texts; where they have no labels, those at publishing."""
    if result["figures"]:
        yield from _metric_lines(result["figures"])
    else:
        yield from _metric_lines(result["published_figures"], ", as published")
    yield from _metric_lines(result.get("figures_not_trained_on", []), ", rows not trained on")
    yield ["texts/s, measured in turn", *(f"{rate:,.1f}" for rate in result["items_per_s"])]
    yield ["size", *(f"{size / 1e6:.1f} MB" for size in result["num_bytes"])]


def _metric_lines(figures: Sequence[Mapping[str, Any]], suffix: str = "") -> Iterator[list[str]]:
    for name in figures[0] if figures else ():
        if name in figures[1]:
            yield [f"{metric_name(name)}{suffix}", *(format_value(figure[name]) for figure in figures)]


def _agreement(result: Mapping[str, Any]) -> str:
    sentences = [f"Agreement: {result['agreement']:.2%} of {result['rows']:,} texts."]
    right_alone = result.get("right_alone")
    if right_alone and sum(right_alone["rows"]):
        counts = zip(result["versions"], right_alone["rows"], strict=True)
        correct = ", ".join(f"only {name} is correct on {count:,}" for name, count in counts)
        verdict = "may be chance" if right_alone["p_value"] > LIKELY_CHANCE else "is unlikely to be chance"
        sentences.append(f"{correct[0].upper()}{correct[1:]}: this {verdict} (McNemar, p = {right_alone['p_value']:.3g}).")
    for key, rows in (("difference", ""), ("difference_not_trained_on", " on rows not trained on")):
        if key in result:
            sentences.append(_describe_difference(result["versions"], result[key], rows))
    return " ".join(sentences)


def _describe_difference(names: Sequence[str], difference: Mapping[str, Any], rows: str) -> str:
    """The difference of the primary metric: `tickets/2 compared with tickets/1: accuracy +0.0123 (…).`"""
    mean, low, high = (f"{difference[key]:+.4f}" for key in ("mean", "low", "high"))
    metric = metric_name(difference["metric"])
    if difference["is_error"]:  # whose scores are negative, so that more is always better
        metric = f"{metric} smaller by"
    return f"{names[1]} compared with {names[0]}{rows}: {metric} {mean} (95 % interval {low} to {high})."


def _on_training_rows(result: Mapping[str, Any]) -> Iterator[str]:
    """Of how many texts a version was trained on, and what that means for the figures."""
    counts = dict(zip(result["versions"], result.get("trained_on", ()), strict=False))
    for name, count in counts.items():
        if count:
            yield f"{name} was trained on {count:,} of these texts: its metrics on all rows are too good."
        elif count is None:
            yield f"Which of these texts {name} was trained on is not known (no record in the runs folder; see --runs)."
    if result.get("rows_not_trained_on") == 0:
        yield "No text is left that neither was trained on."


def _difference(names: Sequence[str], item: Mapping[str, Any]) -> Iterator[str]:
    predicted = [
        f"{name} {_plain(', '.join(labels)) or '(nothing)'}" + (f" {sure:.2f}" if sure else "")
        for name, labels, sure in zip(names, item["said"], item["confidence"], strict=True)
    ]
    right = [f"true: {_plain(', '.join(item['right']))}"] if "right" in item else []
    yield f"{item['where']}  {'  |  '.join([*predicted, *right])}"
    for text in item["fields"].values():
        yield from textwrap.wrap(_plain(text), 110, initial_indent="    ", subsequent_indent="    ")


def _plain(text: str) -> str:
    """In one line, without what could steer a terminal, and not too long."""
    printable = "".join(entry if entry.isprintable() else " " for entry in text[:MOST_CHARACTERS])
    return printable + ("…" if len(text) > MOST_CHARACTERS else "")


if __name__ == "__main__":
    sys.exit(main())
