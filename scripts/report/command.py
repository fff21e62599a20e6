"""`hooper report`: opens the report of a training run, or makes one of a published model and labelled texts."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_INTERRUPTED, EXIT_SETUP
from scripts.report import page as pages
from scripts.training.data import describe_broken
from scripts.training.recipe import Recipe

EXAMPLES = """examples:
  hooper report                              the newest one, in a browser where there is one
  hooper report tickets/1 --no-open          its path
  hooper report tickets --json | jq .headline
  hooper report sentiment --data dev.csv     make one: the model answers these texts, and is judged by their labels

A report is one file that needs no network. It holds texts of the data, so it stays in the run's folder and is not published.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or make a report.

    Returns:
        0; 2 where there is none; 130 where it was interrupted.
    """
    options = parser().parse_args(arguments)
    try:
        page = _made(options) if options.data else pages.find(options.wish, Path(options.runs))
        if options.json:
            print(_json(page), end="")
        else:
            _show(page, options.no_open)
    except HooperError as error:
        print(f"hooper report: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    except ImportError as error:
        print(f"hooper report: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="hooper report",
        usage="hooper report [NAME[/VERSION] | RUN_FOLDER] [OPTION ...]",
        description="Open the report on a model: what it gets right, what it gets wrong, and how sure it is.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "wish", nargs="?", default="", metavar="MODEL", help="a model's name, a run's folder; default: the newest"
    )
    made.add_argument("--no-open", action="store_true", help="print its path and open nothing")
    made.add_argument("--json", action="store_true", help="print the same as JSON")
    made.add_argument("--runs", default=Recipe().runs, help="folder of the runs")
    group = made.add_argument_group("to make one of a published model")
    group.add_argument("--data", nargs="+", default=[], metavar="FILE", help="labelled texts: files as for `hooper train`")
    group.add_argument("--models", default=os.environ.get("HOOPER_MODELS", "models"), help="model repository")
    group.add_argument("--max-rows", type=int, default=0, metavar="N", help="judge it on so many rows, drawn at random; 0: all")
    group.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
    group.add_argument("--label-column", default="", metavar="NAME", help="column of the label; default: guessed")
    return made


def _made(options: argparse.Namespace) -> Path:
    from scripts.export.published import open_version  # here: what only opens a file needs none of these
    from scripts.report.build import build, evaluate_version, facts_of, read_data

    if not options.wish:
        raise InvalidSettings("say which model answers the texts of --data, as in `hooper report sentiment --data dev.csv`")
    version = open_version(options.wish, Path(options.models))
    columns = {name: getattr(options, name) for name in ("text_column", "label_column", "max_rows")}
    recipe = replace(Recipe(), task=version.manifest.task, validation=options.data, **columns)
    examples, broken = read_data(version, recipe)
    notes = [describe_broken(broken)] if broken else []
    evaluated = evaluate_version(version, examples, notes)
    report = build(evaluated, {**facts_of(version.manifest), "data": ", ".join(options.data)})
    return pages.write(report, pages.page_of(Path(options.runs) / version.manifest.name, version.manifest.version))


def _json(page: Path) -> str:
    try:
        return page.with_suffix(".json").read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSettings(f"{page.with_suffix('.json')} cannot be read: {error.strerror}") from error


def _show(page: Path, no_open: bool) -> None:
    print(page)
    if not no_open and sys.stdout.isatty() and _has_browser():
        webbrowser.open(page.resolve().as_uri())


def _has_browser() -> bool:
    """Whether a window can be opened: a browser in the terminal would show no picture."""
    has_screen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not has_screen:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
