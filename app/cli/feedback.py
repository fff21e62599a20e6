"""`hooper feedback`, `feedback export` and `feedback remove`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import JsonOption, with_settings
from app.cli.terminal import print_json, print_table
from app.core import feedback as store
from app.core.command_line import program
from app.core.correction import Correction, Latest, latest
from app.core.errors import InvalidSettings, SetupError
from app.core.files import PRIVATE, write_atomically
from app.settings import Settings
from app.tasks.registry import installed_tasks

HEADER = ("MODEL", "ANSWERED", "RIGHT", "COUNT")
OTHER, AS_ANSWERED = "(other)", "(as answered)"
"""In place of answers and summaries, of which no two are alike."""
Counts = Counter[tuple[str, str, str, bool]]


@program(
    "hooper feedback",
    """  hooper feedback --feedback feedback.db       how often each model was right, and what it took for what
  HOOPER_FEEDBACK=feedback.db hooper feedback --json
  hooper feedback export corrected.jsonl --model sentiment     the rows that `hooper train` reads
  hooper feedback next --model sentiment texts.txt             the texts most worth labelling next
  hooper feedback remove --request-id 0f8b6a0a                 forget what somebody has sent
""",
)
@with_settings("feedback")
def feedback(
    settings: Settings,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="of this model alone")] = None,
    as_json: JsonOption = False,
) -> int:
    """Say how often each model was right, by the corrections that were kept."""
    counts = counted(store.read(feedback_file(settings), model))
    if as_json:
        names = ("model", "answered", "right", "agrees")
        print_json([{**dict(zip(names, key, strict=True)), "count": count} for key, count in _ordered(counts)])
    else:
        print_table([[*map(str, key[:3]), str(count)] for key, count in _ordered(counts)], HEADER)
    return 0


def feedback_file(settings: Settings) -> Path:
    """The file that the settings name.

    Raises:
        InvalidSettings: they name none.
    """
    if not settings.feedback:
        raise InvalidSettings("which file holds the corrections? say --feedback FILE, or set HOOPER_FEEDBACK")
    return Path(settings.feedback)


def counted(corrections: Iterable[Correction]) -> Counts:
    """How often which answer of a model was to be which: its confusions, where it has labels."""
    return Counter((correction.model, *_answers(correction), correction.agrees) for correction in corrections)


def _answers(correction: Correction) -> tuple[str, str]:
    """The model's answer and the right one, in a word."""
    if "label" in correction.right:
        return correction.predicted["labels"][0]["label"], correction.right["label"]
    return AS_ANSWERED, AS_ANSWERED if correction.agrees else OTHER


def _ordered(counts: Counts) -> Iterator[tuple[tuple[str, str, str, bool], int]]:
    """By model, the most frequent first."""
    yield from sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))


@program(
    "hooper feedback export",
    """  hooper feedback export corrected.jsonl --model sentiment     the last one of each text, for `hooper train`
  hooper feedback export all.jsonl --model sentiment --all     every correction, with the answer and where it came from
  hooper train reviews.csv --from-feedback feedback.db         trains on them without an export
""",
)
@with_settings("feedback")
def export(
    settings: Settings,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="the file to write, one JSON object a line")],
    model: Annotated[str | None, typer.Option(metavar="NAME", help="of this model; needed where there are several")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="every correction with all that is known of it, for other programs")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace the file where it exists")] = False,
) -> int:
    """Write corrections as the rows that `hooper train` reads."""
    if file.exists() and not force:
        raise SetupError(f"{file} exists; say --force to replace it")
    path = feedback_file(settings)
    corrections = list(store.read(path, model))
    if not corrections:
        raise SetupError(f"{path} holds no corrections{f' of {model!r}' if model else ''}")
    if everything:
        write(file, [json.dumps(_all_fields(correction), ensure_ascii=False) for correction in corrections])
        print(f"{len(corrections):,} corrections -> {file}")
        return 0
    _check_one_model(corrections)
    last = latest(corrections)
    tasks = installed_tasks(settings.tasks)
    write(file, [json.dumps(tasks.training_row(correction), ensure_ascii=False) for correction in last.corrections])
    print(f"{len(last.corrections):,} rows -> {file}")
    _report_repeats(last)
    return 0


def write(target: Path, lines: Sequence[str]) -> None:
    """All lines under the file's name, or none; its owner alone may read them.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        write_atomically(target, "".join(f"{line}\n" for line in lines), PRIVATE)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror}") from error


def _check_one_model(corrections: Sequence[Correction]) -> None:
    models = Counter(correction.model for correction in corrections)
    if len(models) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(models.items()))
        raise SetupError(f"the corrections are of several models, {listed}: say which with --model NAME")


def _report_repeats(last: Latest) -> None:
    if last.num_repeated:
        print(
            f"hooper feedback export: of items that were corrected again the last correction is written; {last.num_repeated:,}"
            f" earlier ones are left out, and {last.num_conflicting:,} items had conflicting corrections",
            file=sys.stderr,
        )


def _all_fields(correction: Correction) -> dict[str, object]:
    names = ("id", "at", "request_id", "model", "version", "task", "item", "predicted", "right", "agrees", "source", "comment")
    return {name: getattr(correction, name) for name in names}


@program(
    "hooper feedback remove",
    """  hooper feedback remove --request-id 0f8b6a0a                 what came with one request
  hooper feedback remove --before 2026-01-01                   what is older
  hooper feedback remove --model sentiment                     what was said of one model
  hooper feedback remove --everything                          all of it; the service may run on
""",
)
@with_settings("feedback")
def remove(
    settings: Settings,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="of this model")] = None,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="kept under this request id")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="kept before this day or time (UTC), as 2026-01-31")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="all corrections of all models")] = False,
) -> int:
    """Forget corrections."""
    filters = [value for value in (model, request_id, before) if value is not None]
    if bool(filters) == everything:
        raise SetupError("say what is to be removed: --model, --request-id or --before, or else --everything")
    count = store.remove(feedback_file(settings), model, request_id, None if before is None else _time(before))
    print(f"removed {count:,} corrections")
    return 0


def _time(words: str) -> str:
    try:
        time = datetime.fromisoformat(words)
    except ValueError:
        raise SetupError(f"--before {words} is no day or time; write it as 2026-01-31") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
