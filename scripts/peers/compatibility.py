"""Which checkpoints can be served: each of a folder is published, and its graph's logits are compared with transformers'.

    python -m scripts.peers.compatibility FOLDER --output docs/compatibility.md

FOLDER holds one folder per checkpoint, as transformers saved it, named after its kind and, after the last hyphen, what it is
for: `bert-qa`. Each is published in a process of its own, with fp32 weights, into a folder that is thrown away. The
measurements become the table of a page, whose other text stays, and with --json a file; what a run before wrote there of other
checkpoints stays in both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED
from app.core.types import Row, RowOutput
from app.tasks.tokenizer import Pair
from scripts.bench.report import write_between_marks
from scripts.export.eval_data import SENTENCES
from scripts.export.export import sample_rows, spread
from scripts.export.import_checkpoint import Checkpoint, ImportRequest, import_checkpoint, open_checkpoint
from scripts.export.layouts import accepted_inputs, head_logits
from scripts.export.published import OpenVersion, open_folder
from scripts.export.torch_reference import TorchRunner
from scripts.tasks import training_tasks
from scripts.training.evaluation import largest_error
from scripts.training.recipe import Recipe

TIMEOUT_S = 300
HEADLESS = "emb"
"""What a checkpoint is for that has no head to say it."""
MAX_ERROR = 1e-4
NUM_ROWS = 8


@dataclass(frozen=True)
class CheckpointOutcome:
    """What came of one checkpoint."""

    kind: str
    use: str
    """What it is for, as its folder is called."""
    architecture: str = ""
    layout: str = ""
    """Of its graph; empty where it was refused."""
    max_error: float | None = None
    """Largest difference of a logit from transformers' for the text alone, the text alone and in mixed company."""
    refusal: str = ""
    crash: str = ""
    """How its process ended, where it did not end well: never expected."""
    engines: dict[str, str] = field(default_factory=dict)
    """Engine to `runs`, with its largest difference from the CPU in fp32, or why it does not."""

    @property
    def is_wrong(self) -> bool:
        return bool(self.crash) or (self.max_error is not None and not self.max_error <= MAX_ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish each checkpoint and write the table.

    Returns:
        0; 1 where a process crashed or a published graph differs from transformers by more than 1e-4.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.peers.compatibility", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="a folder of checkpoints")
    parser.add_argument("--output", type=Path, help="the page whose table is written")
    parser.add_argument("--json", type=Path, help="where the outcomes are written as json")
    options = parser.parse_args(arguments)
    outcomes = []
    for folder in sorted(path for path in options.folder.iterdir() if (path / "config.json").is_file()):
        outcomes.append(measure_in_subprocess(folder))
        print(describe(outcomes[-1]), flush=True)
    failed = [outcome for outcome in outcomes if outcome.is_wrong]
    published = sum(bool(outcome.layout) for outcome in outcomes)
    print(f"{len(outcomes)} checkpoints: {published} published, {len(outcomes) - published} not, {len(failed)} wrongly")
    if options.json:
        outcomes = _with_earlier(options.json, outcomes)
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n", encoding="utf-8")
    if options.output:
        write_between_marks(options.output, table(outcomes))
    return EXIT_FAILED if failed else 0


def _with_earlier(file: Path, outcomes: Sequence[CheckpointOutcome]) -> list[CheckpointOutcome]:
    """Those that a file has of other checkpoints, then these."""
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    now = {(outcome.kind, outcome.use) for outcome in outcomes}
    return [*(CheckpointOutcome(**entry) for entry in earlier if (entry["kind"], entry["use"]) not in now), *outcomes]


def measure_in_subprocess(folder: Path) -> CheckpointOutcome:
    """The outcome of a checkpoint, from a process of its own: an engine may end its process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(folder, sender))
    child.start()
    sender.close()
    outcome: CheckpointOutcome | None = None
    crash = ""
    try:
        if receiver.poll(TIMEOUT_S):
            outcome = receiver.recv()
        else:
            crash = f"took more than {TIMEOUT_S} s"
            child.kill()
    except EOFError:  # it died without a word
        pass
    child.join()
    crash = crash or f"its process ended with exit code {child.exitcode}"
    return outcome or CheckpointOutcome(*_kind_and_use(folder), crash=crash)


def measure(folder: Path) -> CheckpointOutcome:
    """Publish a checkpoint and compare it."""
    kind, use = _kind_and_use(folder)
    try:
        with tempfile.TemporaryDirectory(prefix="hooper-") as models:
            recipe = Recipe(name=folder.name.lower(), models=models)
            task = next(name for name, each in training_tasks().items() if each.headless) if use == HEADLESS else None
            published = import_checkpoint(ImportRequest(str(folder), recipe, task, [], "fp32", ""), lambda stage, text: None)
            version = open_folder(published)
            error = largest_difference(version, open_checkpoint(str(folder), task))
    except HooperError as refusal:
        return CheckpointOutcome(kind, use, _architecture(folder), refusal=refusal.detail.replace(str(folder), folder.name))
    engines: dict[str, str] = {
        device: f"runs, {trial.max_abs_error.get('fp32', 0.0):.1e}" if trial.runs else trial.reason
        for device, trial in version.manifest.engines.items()
        if device != "cpu"
    }
    return CheckpointOutcome(kind, use, _architecture(folder), version.manifest.graph.layout, error, engines=engines)


def largest_difference(version: OpenVersion, checkpoint: Checkpoint) -> float:
    """Of any logit, between the published graph, each row alone and all in one tensor, and transformers, each text alone.

    Classifiers are compared from the text on, through transformers' own tokenizer; of others the rows are compared, since
    transformers has no windows of ours.
    """
    training, tokenizer = version.training, version.tokenizer()
    if training.output_axis == "row":
        texts: list[str | Pair] = [*SENTENCES[::3], " ".join(SENTENCES * 4), *zip(SENTENCES[::6], SENTENCES[1::6], strict=True)]
        rows = [Row(window.input_ids, window.token_type_ids) for window, *_ in tokenizer.windows(texts)]
        expected = [_by_transformers(checkpoint, text, version.manifest.max_tokens) for text in texts]
    else:
        rows = spread(sample_rows(training, tokenizer, version.manifest.task_options), NUM_ROWS)
        runner = TorchRunner(checkpoint.model, training.output_axis)
        expected = [runner.run_alone(row) for row in rows]
    single = [version.session.run_together([row])[0] for row in rows]
    return float(np.maximum(largest_error(expected, single), largest_error(expected, version.session.run_together(rows))))


def _by_transformers(checkpoint: Checkpoint, text: str | Pair, max_tokens: int) -> RowOutput:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.source.location)
    pair = text if isinstance(text, tuple) else (text,)
    tensors = tokenizer(*pair, truncation=True, max_length=max_tokens, return_tensors="pt")
    accepted = accepted_inputs(checkpoint.model)  # some tokenizers send what their models do not take
    with torch.no_grad():
        inputs = {name: tensor for name, tensor in tensors.items() if name in accepted}
        return {"logits": head_logits(checkpoint.model(**inputs, return_dict=True))[0].numpy()}


def describe(outcome: CheckpointOutcome) -> str:
    """A line for the terminal."""
    name = f"{outcome.kind}-{outcome.use}"
    if outcome.layout:
        engines = "".join(f"; {engine} {verdict}" for engine, verdict in outcome.engines.items())
        return f"{name:<24}{outcome.layout:<8} {outcome.max_error:.1e}{engines}"
    return f"{name:<24}{'CRASH' if outcome.crash else 'refused'}: {outcome.crash or outcome.refusal}"


def table(outcomes: Sequence[CheckpointOutcome]) -> str:
    """Kinds by uses in Markdown, with the sentences of refusals below."""
    uses = sorted({outcome.use for outcome in outcomes}, key=lambda use: (use not in ("seq", "seq2"), use))
    cells: dict[str, dict[str, CheckpointOutcome]] = defaultdict(dict)
    for outcome in outcomes:
        cells[outcome.kind][outcome.use] = outcome
    reasons: list[str] = []
    lines = [f"| kind | {' | '.join(uses)} | other engines |", f"|---|{'---|' * (len(uses) + 1)}"]
    for kind, by_use in sorted(cells.items()):
        row_cells = [_cell(by_use.get(use), reasons) for use in uses]
        results = [result for outcome in by_use.values() for result in outcome.engines.items()]
        engines = sorted({f"{engine} {'runs' if text.startswith('runs') else 'does not'}" for engine, text in results})
        lines.append(f"| {kind} | {' | '.join(row_cells)} | {', '.join(engines)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))])


def _cell(outcome: CheckpointOutcome | None, reasons: list[str]) -> str:
    if outcome is None:
        return ""
    if outcome.layout:
        return f"{outcome.layout} {outcome.max_error:.0e}"
    reason = outcome.crash or outcome.refusal
    if reason not in reasons:
        reasons.append(reason)
    return f"{'**crash**' if outcome.crash else 'refused'} ({reasons.index(reason) + 1})"


def _child(folder: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    connection.send(measure(folder))


def _kind_and_use(folder: Path) -> tuple[str, str]:
    kind, _, use = folder.name.rpartition("-")
    return (kind, use) if kind else (use, "")


def _architecture(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next(iter(config.get("architectures") or []), "")


if __name__ == "__main__":
    sys.exit(main())
