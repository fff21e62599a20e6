"""`hooper compare`: two published versions side by side, without torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_INTERRUPTED, EXIT_SETUP
from scripts.export.formatting import format_value, metric_name
from scripts.training.recipe import Recipe

MOST_CHARACTERS = 300
LIKELY_CHANCE = 0.05
EXAMPLES = """examples:
  hooper compare sentiment/1 sentiment/2 --data dev.csv
  hooper compare sentiment/2 ./runs/try/3 --data dev.csv --json | jq .agreement
  hooper compare topics/1 topics/2                       on built-in texts: agreement and speed alone

Both answer the same texts through the service's own code. Labels are optional: with them, figures are told, and which of
the two is right where they differ. The texts on which both are surest of different answers come first.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare.

    Returns:
        0; 2 where they cannot be compared; 130 where it was interrupted.
    """
    options = parser().parse_args(arguments)
    try:
        found = _compared(options)
    except HooperError as error:
        print(f"hooper compare: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    except ImportError as error:
        print(f"hooper compare: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else "\n".join(told(found)))
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="hooper compare",
        usage="hooper compare NAME[/VERSION] NAME[/VERSION] [OPTION ...]",
        description="Compare two published versions: figures, agreement, speed, and the texts on which they differ.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("model", metavar="ONE", help="a published version, or a published folder's path")
    made.add_argument("other", metavar="OTHER", help="the one to compare it with")
    made.add_argument("--data", nargs="+", default=[], metavar="FILE", help="texts, labelled or not; default: built-in ones")
    made.add_argument("--most", type=int, default=20, metavar="N", help="tell at most so many texts on which they differ (20)")
    made.add_argument("--max-rows", type=int, default=0, metavar="N", help="take so many rows, drawn at random; 0: all")
    made.add_argument(
        "--device", default="cpu", choices=("auto", "cpu", "openvino", "cuda", "tensorrt"), help="what both run on"
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--models", default=os.environ.get("HOOPER_MODELS", "models"), help="model repository")
    made.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
    made.add_argument("--label-column", default="", metavar="NAME", help="column of the label; default: guessed, or none")
    return made


def _compared(options: argparse.Namespace) -> dict[str, Any]:
    from scripts.export.published import open_version
    from scripts.report.comparison import compare  # here: the parser is needed alone, for completion

    one, other = (open_version(wish, Path(options.models), options.device) for wish in (options.model, options.other))
    columns = {name: getattr(options, name) for name in ("text_column", "label_column", "max_rows")}
    recipe = replace(Recipe(), task=one.manifest.task, validation=options.data, **columns)
    return compare(one, other, recipe, options.most)


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
    for one in found["differing"]:
        yield ""
        yield from _difference(found["versions"], one)


def _lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Figures on these texts; where they have no labels, those at publishing."""
    figures, where = found["figures"], ""
    if not figures:
        figures, where = found["published_figures"], ", as published"
    for name in figures[0]:
        if name in figures[1]:
            yield [f"{metric_name(name)}{where}", *(format_value(one[name]) for one in figures)]
    yield ["texts/s, side by side", *(f"{rate:,.1f}" for rate in found["items_per_s"])]
    yield ["size", *(f"{size / 1e6:.1f} MB" for size in found["num_bytes"])]


def _agreement(found: Mapping[str, Any]) -> str:
    said = f"They agree on {found['agreement']:.2%} of {found['rows']:,} texts."
    alone = found.get("right_alone")
    if not alone or not sum(alone["rows"]):
        return said
    one, other = (f"{name} alone is right on {count:,}" for name, count in zip(found["versions"], alone["rows"], strict=True))
    verdict = "which may be chance" if alone["p_value"] > LIKELY_CHANCE else "which is hardly chance"
    return f"{said} {one}, {other}, {verdict} (p = {alone['p_value']:.3g})."


def _difference(names: Sequence[str], one: Mapping[str, Any]) -> Iterator[str]:
    said = [
        f"{name} {_plain(', '.join(labels)) or '(nothing)'}" + (f" {sure:.2f}" if sure else "")
        for name, labels, sure in zip(names, one["said"], one["confidence"], strict=True)
    ]
    right = [f"right: {_plain(', '.join(one['right']))}"] if "right" in one else []
    yield f"{one['where']}  {'  |  '.join([*said, *right])}"
    for text in one["fields"].values():
        yield from textwrap.wrap(_plain(text), 110, initial_indent="    ", subsequent_indent="    ")


def _plain(text: str) -> str:
    """In one line, without what could steer a terminal, and not too long."""
    shown = "".join(one if one.isprintable() else " " for one in text[:MOST_CHARACTERS])
    return shown + ("…" if len(text) > MOST_CHARACTERS else "")


if __name__ == "__main__":
    sys.exit(main())
