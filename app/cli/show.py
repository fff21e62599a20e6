"""`hooper models show`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from app.cli.output import figures, plain, print_json, print_table
from app.cli.parser import Parser, add_settings, settings_from
from app.core.artefact import Artefact
from app.core.errors import InvalidArtefact
from app.core.manifest import Manifest
from app.serving.repository import Repository

EXAMPLES = """  hooper models show sentiment                 the latest version
  hooper models show sentiment/1 --json
  hooper models show sentiment --card | less   its model card: data, training, figures, limits
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="NAME[/VERSION]", help="a published model, or a published folder's path")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
    parser.add_argument("--card", action="store_true", help="print the model card")
    add_settings(parser, ("models", "state"))


def run(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    repository = Repository(settings.models, settings.state)
    artefact = repository.find(options.model)
    if options.card:
        print((artefact.folder / "README.md").read_text(encoding="utf-8"), end="")
    elif options.json:
        print_json(
            {**artefact.manifest.model_dump(), "folder": str(artefact.folder), "serving": _serving(repository, artefact)}
        )
    else:
        print_table([[name, plain(value)] for name, value in [*_facts(artefact), *_serves(_serving(repository, artefact))]])
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
    yield "reads", f"up to {manifest.max_tokens} tokens at once"
    yield "figures", figures(manifest.evaluation, most=100)
    for precision, parity in manifest.parity.items():
        verdict = "" if parity.passed else "; failed, not used"
        yield f"in {precision}", f"{parity.agreement_to_show:.2%} of {parity.rows:,} decided as the reference{verdict}"
    for device, trial in manifest.engines.items():
        yield f"on {device}", "runs" if trial.runs else f"does not run: {trial.reason}"
    yield "graph", f"{graph.layout} layout, weights stored as {graph.storage}"
    yield "made from", f"{manifest.base_model}, {manifest.created[:10]}"
    yield "licence", manifest.license or "not stated"
    yield "folder", f"{artefact.folder}, {_size(manifest)}, checksums match"


def _size(manifest: Manifest) -> str:
    return f"{sum(entry.num_bytes for entry in manifest.files.values()) / 1e6:.1f} MB"
