"""The report's page, one file without scripts and without requests, and where reports lie on disk.

`report-<version>.html` and `.json` lie in a run's folder, never beside the model, since they hold texts of the data; what
`hooper report --data` makes is `report-<version>-<data>`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from app.core.errors import InvalidSettings, SetupError
from app.core.files import write_atomically
from scripts.export.formatting import format_value, metric_name
from scripts.report import plots
from scripts.tasks import training_task
from scripts.training.baselines import is_reference, unbeaten

FILE = re.compile(r"report-([1-9][0-9]*)(-[\w.-]+)?\.html")
"""Of a training, `report-<version>`; of other data, with the name of that."""
FOLDER = Path(__file__).parent
MAX_CHARACTERS = 1200
"""Of a text that are shown."""
MAX_SLUG = 40
"""Characters of the data's name in a file's name."""
FEW_LABELS = 12
"""So many rows and columns of a matrix can be read as a table."""
LEVELS = (0.7, 0.4, 0.15)
"""A word's share of the heaviest word's weight, from which it is marked strongly, clearly, lightly."""

FACT_NAMES = {"made from": "base model", "reads": "max input length", "trained on": "training data"}
"""What the page calls facts that have another name in the json."""
OPTIONAL = (
    "cross_validation",
    "per_class",
    "confusion",
    "calibration",
    "thresholds",
    "points",
    "suspects",
    "trained_on",
    "evaluated_on",
    "baselines",
    "history",
    "intervals",
    "written",
    "samples",
    "perplexity",
)
"""Parts that only some tasks or reports have."""


def to_html(report: Mapping[str, Any]) -> str:
    """The page of a built report. Every text is escaped: the template engine does it to all that is not marked as markup."""
    full = {**dict.fromkeys(OPTIONAL), **report, "about_temperature": _about_temperature(report.get("temperature"))}
    training = training_task(report["task"])
    full["tiles"] = {key: value for key, value in report["headline"].items() if not is_reference(training, key)}
    full["metric_names"] = defaultdict(str, report.get("metric_names", {}))
    full["unbeaten"] = unbeaten(report.get("baselines") or {}, full["metric_names"])
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return _template().render(report=full, style=style, length_metric=training.length_metric)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"metric_name": metric_name, "format_value": format_value, "share": _share, "marked": marked}
    environment.globals |= {
        "plots": plots,
        "few_labels": FEW_LABELS,
        "fact_names": FACT_NAMES,
        "curves": _losses,
        "rates": _rates,
    }
    return environment.get_template("page.html.j2")


def marked(text: str, name: str, words: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The text of a field in pieces, each with the class that it is marked by: empty, `for-1` to `for-3`, `against-…`."""
    heaviest = max((abs(word["weight"]) for word in words), default=0.0) or 1.0
    excerpt = text[:MAX_CHARACTERS]
    place = 0
    for word in words:
        level = sum(abs(word["weight"]) / heaviest >= limit for limit in LEVELS)
        if word["field"] != name or not level or word["end"] > len(excerpt):
            continue
        yield excerpt[place : word["start"]], ""
        yield excerpt[word["start"] : word["end"]], f"{'for' if word['weight'] > 0 else 'against'}-{level}"
        place = word["end"]
    yield excerpt[place:], ""
    if len(text) > len(excerpt):
        yield f" … ({len(text) - len(excerpt):,} characters more)", "cut"


def _about_temperature(temperature: float | None) -> str:
    if temperature is None:
        return "No temperature scaling applied."
    return f"The model is published with a temperature of {temperature:g}, fitted on all held-out rows."


def _losses(history: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {
        kind: [(entry["update"], entry["loss"]) for entry in history[kind]] for kind in ("train", "validation") if history[kind]
    }


def _rates(history: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {"rate": [(entry["update"], entry["learning_rate"]) for entry in history["train"]]}


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def write(report: Mapping[str, Any], page: Path) -> Path:
    """Write the page and, beside it, the same as json; each is there as a whole or not at all.

    Returns:
        The page.

    Raises:
        SetupError: they cannot be written.
    """
    page = page.with_suffix(".html")
    texts = {
        page.with_suffix(".json"): json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        page: to_html(report),
    }
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            write_atomically(path, text)
    except OSError as error:
        raise SetupError(f"the report cannot be written to {page}: {error.strerror or error}") from error
    return page


def page_of(run: Path, version: int) -> Path:
    """The page of the training that published the version."""
    return run / f"report-{version}.html"


def page_of_data(run: Path, version: int, sources: Sequence[str], fingerprint: str) -> Path:
    """A page of other data: that of an earlier report on the very same, else one that is not there yet.

    Args:
        fingerprint: of the report: what it says under `fingerprint`.
    """
    stem = f"report-{version}-{_slug(sources)}"
    pages = (run / f"{stem}{f'-{number}' if number > 1 else ''}.html" for number in count(1))
    return next(page for page in pages if not page.exists() or _value(page, "fingerprint") == fingerprint)


def keep_older(page: Path, weights: str) -> None:
    """Give a report on other weights another name: that of a version that was removed, or of another repository's.

    Raises:
        SetupError: the folder refuses it.
    """
    if not page.exists() or _value(page, "weights") == weights:
        return
    names = (page.with_name(f"{page.stem}-older{f'-{number}' if number > 1 else ''}.html") for number in count(1))
    older = next(name for name in names if not name.exists())
    try:
        page.rename(older)
        page.with_suffix(".json").rename(older.with_suffix(".json"))
    except FileNotFoundError:  # it had no json
        return
    except OSError as error:
        raise SetupError(f"the older report {page} cannot be renamed: {error.strerror}") from error


def find(model: str, runs: Path) -> Path:
    """The page of `name/version`; the newest of a name, of a run's folder or, where nothing is named, of all; a page's path is
    itself. One of a training goes before those of other data.

    Raises:
        InvalidSettings: there is none.
    """
    path = Path(model).expanduser()
    if model and path.is_file():
        return path.with_suffix(".html")
    name, _, version = model.rpartition("/")
    if not version.isdecimal():
        name, version = model, ""
    folders = [path, runs / name] if model else sorted(runs.glob("*/"))
    matches = [
        (file, match)
        for folder in folders
        if folder.is_dir()
        for file in folder.iterdir()
        if (match := FILE.fullmatch(file.name)) and version in ("", match[1])
    ]
    if not matches:
        raise InvalidSettings(
            f"there is no report {f'on {model} ' if model else ''}in {runs}; `hooper train` writes one,"
            f" and `hooper report {model or 'NAME'} --data FILE` makes one of a published model and labelled texts"
        )
    newest, _ = max(matches, key=lambda entry: (not entry[1][2], entry[0].stat().st_mtime_ns, entry[0].name))
    return newest


def _slug(sources: Sequence[str]) -> str:
    """The files' names without their endings, as a part of a file's name."""
    joined = "+".join(Path(source).name.split(".")[0] for source in sources)
    return re.sub(r"[^\w-]+", "-", joined, flags=re.ASCII).strip("-")[:MAX_SLUG] or "data"


def _value(page: Path, key: str) -> Any:
    """What the report's json says under a key; None where it says nothing or cannot be read."""
    try:
        return json.loads(page.with_suffix(".json").read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None
