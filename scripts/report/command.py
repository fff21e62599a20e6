"""`hooper report`: opens the report of a training run, or makes one of a published model and labelled texts."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.core.command_line import FILE_OPTIONS, offline_errors, program, spread
from app.core.errors import InvalidSettings
from scripts.report import page as pages
from scripts.training.recipe import Recipe

EXAMPLES = """\
  hooper report                              the newest one, in a browser where there is one
  hooper report tickets/1 --no-open          its path
  hooper report tickets --json | jq .headline
  hooper report sentiment --data dev.csv     make one: the model answers these texts, and is judged by their labels

A report is one file that needs no network. It holds texts of the data, so it stays in the run's folder and is not published.
That of the training is report-VERSION; one of other data has the data's name too, and says which rows were trained on.
"""


RUNS = Path(Recipe().runs)
PANEL = "to make one of a published model"


@program("hooper report", EXAMPLES, offline_errors("hooper report"))
@spread("reading", FILE_OPTIONS, dict)
def main(
    reading: dict[str, str],
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="a model's name, a run's folder; default: the newest", show_default=False)
    ] = "",
    no_open: Annotated[bool, typer.Option("--no-open", help="print its path and open nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the same as JSON")] = False,
    runs: Annotated[Path, typer.Option(metavar="PATH", help="folder of the runs")] = RUNS,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE ...", help="labelled texts: files as for `hooper train`", rich_help_panel=PANEL),
    ] = None,
    models: Annotated[
        Path, typer.Option(envvar="HOOPER_MODELS", metavar="PATH", help="model repository", rich_help_panel=PANEL)
    ] = Path("models"),
    max_rows: Annotated[
        int, typer.Option(metavar="N", help="judge it on so many rows, drawn at random; 0: all", rich_help_panel=PANEL)
    ] = 0,
    text_column: Annotated[
        str, typer.Option(metavar="NAME", help="column of the text; default: guessed", rich_help_panel=PANEL)
    ] = "",
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="column of the label; default: guessed", rich_help_panel=PANEL)
    ] = "",
) -> int:
    """Open the report on a model: what it gets right, what it gets wrong, and how sure it is."""
    if data:
        columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column, **reading}
        recipe = replace(Recipe(), validation=data, max_rows=max_rows, **columns)
        page = _build(model, recipe, models, runs)
    else:
        page = pages.find(model, runs)
    if as_json:
        print(_json(page), end="")
    else:
        _show(page, no_open)
    return 0


def _build(model: str, recipe: Recipe, models: Path, runs: Path) -> Path:
    from scripts.export.published import open_version  # here: what only opens a file needs none of these
    from scripts.report.build import write_data_report

    if not model:
        raise InvalidSettings("say which model answers the texts of --data, as in `hooper report sentiment --data dev.csv`")
    version = open_version(model, models, may_write=True)
    return write_data_report(version, replace(recipe, task=version.manifest.task), runs)


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
