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
from scripts.export.formatting import format_value, metric_name
from scripts.training.recipe import Recipe

MOST_CHARACTERS = 300
LIKELY_CHANCE = 0.05
EXAMPLES = """\
  hooper compare sentiment/1 sentiment/2 --data dev.csv
  hooper compare sentiment/2 ./runs/try/3 --data dev.csv --json | jq .agreement
  hooper compare topics/1 topics/2                       on built-in texts: agreement and speed alone

Both answer the same texts through the service's own code. Labels are optional: with them, figures are told, and which of
the two is right where they differ. The texts on which both are surest of different answers come first.
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
    limit: Annotated[int, typer.Option("--most", metavar="N", help="tell at most so many texts on which they differ")] = 20,
    max_rows: Annotated[int, typer.Option(metavar="N", help="take so many rows, drawn at random; 0: all")] = 0,
    device: Annotated[Literal["auto", "cpu", "openvino", "cuda", "tensorrt"], typer.Option(help="what both run on")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    models: Annotated[Path, typer.Option(envvar="HOOPER_MODELS", metavar="PATH", help="model repository")] = Path("models"),
    text_column: Annotated[str, typer.Option(metavar="NAME", help="column of the text; default: guessed")] = "",
    label_column: Annotated[str, typer.Option(metavar="NAME", help="column of the label; default: guessed, or none")] = "",
) -> int:
    """Compare two published versions: figures, agreement, speed, and the texts on which they differ."""
    from scripts.export.published import open_version
    from scripts.report.comparison import compare  # here: completion needs the options alone

    version, other = (open_version(name, models, device) for name in (first, second))
    columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column, "max_rows": max_rows, **reading}
    recipe = replace(Recipe(), task=version.manifest.task, validation=data or [], **columns)
    result = compare(version, other, recipe, limit)
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else "\n".join(as_lines(result)))
    return 0


def as_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    yield f"{result['task']} on {result['data']}"
    yield ""
    table = [["", *result["versions"]], *_lines(result)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)
    yield ""
    yield _agreement(result)
    if result["differing"]:
        num_listed, count = len(result["differing"]), result["num_differing"]
        yield f"{'All' if num_listed == count else f'{num_listed} of {count:,}'} texts on which they differ, the surest first:"
    for match in result["differing"]:
        yield ""
        yield from _difference(result["versions"], match)


def _lines(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Figures on these texts; where they have no labels, those at publishing."""
    figures, suffix = result["figures"], ""
    if not figures:
        figures, suffix = result["published_figures"], ", as published"
    for name in figures[0]:
        if name in figures[1]:
            yield [f"{metric_name(name)}{suffix}", *(format_value(figure[name]) for figure in figures)]
    yield ["texts/s, side by side", *(f"{rate:,.1f}" for rate in result["items_per_s"])]
    yield ["size", *(f"{size / 1e6:.1f} MB" for size in result["num_bytes"])]


def _agreement(result: Mapping[str, Any]) -> str:
    agreement = f"They agree on {result['agreement']:.2%} of {result['rows']:,} texts."
    right_alone = result.get("right_alone")
    if not right_alone or not sum(right_alone["rows"]):
        return agreement
    first, second = (
        f"{name} alone is right on {count:,}" for name, count in zip(result["versions"], right_alone["rows"], strict=True)
    )
    verdict = "which may be chance" if right_alone["p_value"] > LIKELY_CHANCE else "which is hardly chance"
    return f"{agreement} {first}, {second}, {verdict} (p = {right_alone['p_value']:.3g})."


def _difference(names: Sequence[str], item: Mapping[str, Any]) -> Iterator[str]:
    predicted = [
        f"{name} {_plain(', '.join(labels)) or '(nothing)'}" + (f" {sure:.2f}" if sure else "")
        for name, labels, sure in zip(names, item["said"], item["confidence"], strict=True)
    ]
    right = [f"right: {_plain(', '.join(item['right']))}"] if "right" in item else []
    yield f"{item['where']}  {'  |  '.join([*predicted, *right])}"
    for text in item["fields"].values():
        yield from textwrap.wrap(_plain(text), 110, initial_indent="    ", subsequent_indent="    ")


def _plain(text: str) -> str:
    """In one line, without what could steer a terminal, and not too long."""
    printable = "".join(entry if entry.isprintable() else " " for entry in text[:MOST_CHARACTERS])
    return printable + ("…" if len(text) > MOST_CHARACTERS else "")


if __name__ == "__main__":
    sys.exit(main())
