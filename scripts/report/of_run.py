"""The report that a training run leaves in its folder."""

from __future__ import annotations

from pathlib import Path

from app.core.manifest import read_manifest
from scripts.export.verified_graph import VerifiedGraph
from scripts.export.verify import Reference
from scripts.report import store
from scripts.report.build import build
from scripts.report.judged import Judged
from scripts.report.of_version import about
from scripts.tasks.spec import Prepared
from scripts.training.data import describe_broken
from scripts.training.evaluation import RowRunner


def write_report(
    folder: Path, prepared: Prepared, reference: Reference, verified: VerifiedGraph, runner: RowRunner, run: Path
) -> Path:
    """Report on what was just published.

    Args:
        folder: the published version.
        prepared: the data, with what was said of it.
        reference: the task, and the held-out examples.
        verified: the published graph's answers to them.
        runner: the graph itself.
        run: where the report is written.

    Returns:
        The page.

    Raises:
        SetupError: it cannot be written.
    """
    manifest, dataset = read_manifest(folder), prepared.dataset
    judged = Judged(
        f"{manifest.name}/{manifest.version}",
        manifest.task,
        manifest.task_options,
        reference.offline,
        reference.task,
        reference.examples,
        verified.predictions,
        runner,
        notes_of(prepared),
    )
    told = {**about(manifest), "trained on": f"{len(dataset.train):,} rows"}
    return store.write(build(judged, told), store.page_of(run, manifest.version))


def notes_of(prepared: Prepared) -> list[str]:
    """Everything that was said of the data before training."""
    dataset = prepared.dataset
    notes = [one for one in prepared.notes if one]
    if dataset.broken:
        notes.append(describe_broken(dataset.broken))
    if dataset.num_leaked:
        notes.append(f"{dataset.num_leaked:,} training rows left out: the same item, but for case and spaces, is held out")
    return notes
