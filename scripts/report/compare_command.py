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

from app.core.command_line import offline_errors, program
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
def main(
    first: Annotated[str, typer.Argument(metavar="ONE", help="a published version, or a published folder's path")],
    second: Annotated[str, typer.Argument(metavar="OTHER", help="the one to compare it with")],
    data: Annotated[
        list[str] | None, typer.Option(metavar="FILE ...", help="texts, labelled or not; default: built-in ones")
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", help="tell at most so many texts on which they differ")] = 20,
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

    version, other = (open_version(wish, models, device) for wish in (first, second))
    columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column, "max_rows": max_rows}
    recipe = replace(Recipe(), task=version.manifest.task, validation=data or [], **columns)
    result = compare(version, other, recipe, most)
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else "\n".join(told(result)))
    return 0


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    yield f"{found['task']} on {found['data']}"
    yield ""
    table = [["", *found["versions"]], *_lines(found)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)
    yield ""
    yield _agreement(found)
    if found["differing"]:
        shown, count = len(found["differing"]), found["num_differing"]
        yield f"{'All' if shown == count else f'{shown} of {count:,}'} texts on which they differ, the surest first:"
    for match in found["differing"]:
        yield ""
        yield from _difference(found["versions"], match)


def _lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Figures on these texts; where they have no labels, those at publishing."""
    figures, where = found["figures"], ""
    if not figures:
        figures, where = found["published_figures"], ", as published"
    for name in figures[0]:
        if name in figures[1]:
            yield [f"{metric_name(name)}{where}", *(format_value(figure[name]) for figure in figures)]
    yield ["texts/s, side by side", *(f"{rate:,.1f}" for rate in found["items_per_s"])]
    yield ["size", *(f"{size / 1e6:.1f} MB" for size in found["num_bytes"])]


def _agreement(found: Mapping[str, Any]) -> str:
    said = f"They agree on {found['agreement']:.2%} of {found['rows']:,} texts."
    alone = found.get("right_alone")
    if not alone or not sum(alone["rows"]):
        return said
    first, second = (
        f"{name} alone is right on {count:,}" for name, count in zip(found["versions"], alone["rows"], strict=True)
    )
    verdict = "which may be chance" if alone["p_value"] > LIKELY_CHANCE else "which is hardly chance"
    return f"{said} {first}, {second}, {verdict} (p = {alone['p_value']:.3g})."


def _difference(names: Sequence[str], item: Mapping[str, Any]) -> Iterator[str]:
    said = [
        f"{name} {_plain(', '.join(labels)) or '(nothing)'}" + (f" {sure:.2f}" if sure else "")
        for name, labels, sure in zip(names, item["said"], item["confidence"], strict=True)
    ]
    right = [f"right: {_plain(', '.join(item['right']))}"] if "right" in item else []
    yield f"{item['where']}  {'  |  '.join([*said, *right])}"
    for text in item["fields"].values():
        yield from textwrap.wrap(_plain(text), 110, initial_indent="    ", subsequent_indent="    ")


def _plain(text: str) -> str:
    """In one line, without what could steer a terminal, and not too long."""
    shown = "".join(entry if entry.isprintable() else " " for entry in text[:MOST_CHARACTERS])
    return shown + ("…" if len(text) > MOST_CHARACTERS else "")


if __name__ == "__main__":
    sys.exit(main())
