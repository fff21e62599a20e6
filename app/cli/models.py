"""`hooper models`, `models show`, `models promote`, `models remove` and `export`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import JsonOption, ModelArgument, model_names, with_settings
from app.cli.terminal import figures, plain, print_json, print_table
from app.core.artefact import Artefact, withdraw
from app.core.command_line import program
from app.core.errors import HooperError, InvalidArtefact, SetupError
from app.core.manifest import Manifest
from app.serving.repository import Repository
from app.settings import Settings

HEADER = ("MODEL", "TASK", "SIZE", "FIGURES")


@program(
    "hooper models",
    """  hooper models                                every version, its task, size and figures
  hooper models --json | jq -r '.[].name'
  hooper models show sentiment                 everything about one of them
  hooper models add ./my-checkpoint            publish a checkpoint of transformers
  hooper models promote sentiment/1            let this version serve from the next start on
  hooper models remove sentiment/1             take a version away
""",
)
@with_settings("models")
def list_models(settings: Settings, as_json: JsonOption = False) -> int:
    """List published models."""
    versions = Repository(settings.models).manifests()
    sound = [manifest for manifest in versions.values() if isinstance(manifest, Manifest)]
    if as_json:
        print_json([manifest.model_dump(exclude={"files"}) for manifest in sound])
    else:
        print_table([_row(name, manifest) for name, manifest in versions.items()], HEADER)
    return 0 if len(sound) == len(versions) else 1


def _row(name: str, manifest: Manifest | HooperError) -> list[str]:
    if isinstance(manifest, HooperError):
        return [name, "BAD", "", manifest.detail]
    return [name, manifest.task, _size(manifest), figures(manifest.evaluation)]


@program(
    "hooper models show",
    """  hooper models show sentiment                 the latest version
  hooper models show sentiment/1 --json
  hooper models show sentiment --card | less   its model card: data, training, figures, limits
""",
)
@with_settings("models", "state")
def show(
    settings: Settings,
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest as JSON")] = False,
    card: Annotated[bool, typer.Option("--card", help="print the model card")] = False,
) -> int:
    """Tell everything about one model."""
    repository = Repository(settings.models, settings.state)
    artefact = repository.find(model)
    if card:
        print((artefact.folder / "README.md").read_text(encoding="utf-8"), end="")
        return 0
    serving = _serving(repository, artefact)
    if as_json:
        print_json({**artefact.manifest.model_dump(), "folder": str(artefact.folder), "serving": serving})
    else:
        print_table([[name, plain(value)] for name, value in [*_facts(artefact), *_serves(serving)]])
    return 0


def _serving(repository: Repository, artefact: Artefact) -> dict[str, Any] | None:
    """Which version of the model a start loads, and why; None for a folder elsewhere."""
    name = artefact.manifest.name
    if artefact.folder.resolve().parent != (repository.root / name).resolve():
        return None
    try:
        record, version = repository.records.read(name), repository.served_version(name)
    except InvalidArtefact as error:
        return {"version": None, "why": error.detail, "at": ""}
    if record is None or record.version != version:
        return {"version": version, "why": "the latest", "at": ""}
    return asdict(record)


def _serves(serving: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if serving is not None:
        when = f" {serving['at'][:16].replace('T', ' ')}" if serving["at"] else ""
        which = "no version" if serving["version"] is None else f"version {serving['version']}"
        yield "serves", f"{which} ({serving['why']}{when})"


def _facts(artefact: Artefact) -> Iterator[tuple[str, str]]:
    manifest, graph = artefact.manifest, artefact.manifest.graph
    yield "model", artefact.id
    yield "task", manifest.task
    if manifest.description:
        yield "description", manifest.description
    for key, value in manifest.task_options.items():
        yield key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    yield from _data_format(manifest)
    yield "max input length", f"{manifest.max_tokens} tokens"
    yield "figures", figures(manifest.evaluation, limit=100)
    for precision, parity in manifest.parity.items():
        verdict = "" if parity.passed else "; failed, not used"
        if parity.perplexity_loss is not None:
            verdict = f"; perplexity {100 * parity.perplexity_loss:+.1f} %"
            verdict += "" if parity.passed else ", which was accepted: HOOPER_PRECISION=int4 takes it"
        yield (
            f"in {precision}",
            f"same prediction as the reference: {parity.agreement_to_show:.2%} of {parity.rows:,} rows{verdict}",
        )
    for device, trial in manifest.engines.items():
        yield f"on {device}", "runs" if trial.runs else f"does not run: {trial.reason}"
    yield "graph", f"{graph.layout} layout, weights stored as {graph.storage}"
    yield "base model", f"{manifest.base_model}, {manifest.created[:10]}"
    yield "licence", manifest.license or "not stated"
    yield "folder", f"{artefact.folder}, {_size(manifest)}, checksums match"


def _data_format(manifest: Manifest) -> Iterator[tuple[str, str]]:
    form = manifest.data_format
    if form.columns:
        yield "trained on columns", ", ".join(f"{field.replace('_', ' ')} = {name!r}" for field, name in form.columns.items())
    others = form.model_dump(exclude={"columns"})
    yield from ((name.replace("_", " "), repr(value)) for name, value in others.items() if value)


def _size(manifest: Manifest) -> str:
    return f"{sum(entry.num_bytes for entry in manifest.files.values()) / 1e6:.1f} MB"


@program(
    "hooper models promote",
    """  hooper models promote tickets/2              this version serves from the next start on
  hooper models promote tickets/1              back to it

A running service goes on with the version that it has loaded; its answer to
`POST /v1/models/tickets/load?version=2` says when it has changed.
""",
)
@with_settings("models", "state")
def promote(
    settings: Settings,
    model: Annotated[
        str,
        typer.Argument(metavar="NAME/VERSION", help="the version that shall serve", autocompletion=model_names),
    ],
) -> int:
    """Let a published version serve from the next start on."""
    repository = Repository(settings.models, settings.state)
    folder = repository.folder(model)
    name, number = folder.parent.name, int(folder.name)
    repository.open(name, number)  # a broken version must not be what the next start finds
    before = None
    with suppress(InvalidArtefact):  # a broken record is what this mends
        before = repository.served_version(name)
    if not repository.records.write(name, number, "promoted"):
        raise SetupError(
            f"which version serves cannot be written below {settings.state or settings.models}: nothing was changed"
        )
    instead = f" in place of {name}/{before}" if before not in (None, number) else ""
    print(f"{name}/{number} serves from the next start on{instead}")
    return 0


@program(
    "hooper models remove",
    """  hooper models remove sentiment/1             asks first
  hooper models remove sentiment/1 --yes       for scripts
""",
)
@with_settings("models", "state")
def remove(
    settings: Settings,
    model: Annotated[
        str,
        typer.Argument(metavar="NAME/VERSION", help="the version to remove", autocompletion=model_names),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> int:
    """Take a published version away."""
    repository = Repository(settings.models, settings.state)
    folder = repository.folder(model)
    if not yes and not _confirmed(f"remove {folder} from the disk?"):
        print("nothing was removed", file=sys.stderr)
        return 1
    name, number = folder.parent.name, int(folder.name)
    left = [version for version in repository.versions(name) if version != number]
    serving = None
    with suppress(InvalidArtefact):  # a broken record is told at the next start
        serving = repository.records.read(name)
    if left and serving is not None and serving.version == number:  # first: a record must not name what is gone
        if not repository.records.write(name, left[-1], f"version {number} was removed"):
            raise SetupError(
                f"{model} serves from the next start on, and where that is noted cannot be written: nothing was removed"
            )
        print(f"{name}/{left[-1]} serves from the next start on")
    withdraw(folder)
    print(f"removed {folder}")
    return 0


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise SetupError("not interactive: pass --yes to remove it")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@program(
    "hooper export",
    """  hooper export sentiment sentiment.tar.gz      the latest version; the same version gives the same bytes
  hooper export sentiment/1 /mnt/usb/s1.tar.gz --force
  hooper models add /mnt/usb/s1.tar.gz          on the other machine: checked, and published as its next version
""",
)
@with_settings("models")
def export(
    settings: Settings,
    model: ModelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="the archive to write")],
    force: Annotated[bool, typer.Option("--force", help="replace the file where it exists")] = False,
) -> int:
    """Write a published version into one archive, for another machine."""
    from app.core.archive import SUFFIXES, is_archive, pack
    from app.core.manifest import describe_file

    if not is_archive(file):
        raise SetupError(f"{file} must end in {' or '.join(SUFFIXES)}")
    if file.exists() and not force:
        raise SetupError(f"{file} exists; say --force to replace it")
    artefact = Repository(settings.models).find(model)
    pack(artefact.folder, file)
    file_info = describe_file(file)
    print(f"{artefact.id} -> {file}, {file_info.num_bytes / 1e6:.1f} MB, sha256 {file_info.sha256}")
    return 0
