"""Which checkpoints can be served: each of a folder is published, and its graph's logits are compared with transformers'.

    python -m scripts.compatibility FOLDER --output docs/compatibility.md

FOLDER holds one folder per checkpoint, as transformers saved it, named after its kind and, after the last hyphen, what it is
for: `bert-qa`. Each is published in a process of its own, with fp32 weights, into a folder that is thrown away. The
measurements become the table of a page, whose other text stays, and with --json a file.
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
from app.core.manifest import Manifest, read_manifest
from app.core.types import Row, RowOutput
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.tokenizer import Pair, Tokenizer
from scripts.export.eval_data import SENTENCES
from scripts.export.export import probe_rows, spread
from scripts.export.import_checkpoint import Checkpoint, ImportRequest, import_checkpoint, open_checkpoint
from scripts.export.layouts import accepted_inputs, head_logits
from scripts.export.verify import TorchRunner
from scripts.tasks import training_task
from scripts.training.recipe import Recipe

TIMEOUT_S = 300
WANTED = 1e-4
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Outcome:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish each checkpoint and write the table.

    Returns:
        0; 1 where a process crashed or a published graph differs from transformers by more than 1e-4.
    """
    options = _parser().parse_args(arguments)
    folders = sorted(path for path in Path(options.folder).iterdir() if (path / "config.json").is_file())
    outcomes = []
    for folder in folders:
        outcomes.append(measure_apart(folder))
        print(describe(outcomes[-1]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(one) for one in outcomes], indent=2) + "\n", encoding="utf-8")
    if options.output:
        write_table(Path(options.output), outcomes)
    failed = [one for one in outcomes if one.crash or (one.max_error is not None and not one.max_error <= WANTED)]
    published = sum(bool(one.layout) for one in outcomes)
    print(f"{len(outcomes)} checkpoints: {published} published, {len(outcomes) - published} not, {len(failed)} wrongly")
    return int(bool(failed))


def measure_apart(folder: Path) -> Outcome:
    """The outcome of a checkpoint, from a process of its own: an engine may end its process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(folder, theirs))
    child.start()
    theirs.close()
    try:
        outcome: Outcome | None = ours.recv() if ours.poll(TIMEOUT_S) else None
        how = f"took more than {TIMEOUT_S} s"
    except EOFError:
        outcome, how = None, ""
    if outcome is None and child.is_alive() and how:
        child.kill()
    child.join()
    kind, use = _named(folder)
    return outcome or Outcome(kind, use, crash=how or f"its process ended with exit code {child.exitcode}")


def measure(folder: Path) -> Outcome:
    """Publish a checkpoint and compare it."""
    kind, use = _named(folder)
    try:
        with tempfile.TemporaryDirectory(prefix="hooper-") as models:
            recipe = Recipe(name=folder.name.lower(), models=models)
            version = import_checkpoint(ImportRequest(str(folder), recipe, None, [], "fp32", ""), lambda stage, text: None)
            manifest = read_manifest(version)
            checkpoint = open_checkpoint(str(folder))
            found = largest_difference(version, manifest, checkpoint)
    except HooperError as error:
        return Outcome(kind, use, _architecture(folder), refusal=error.detail.replace(str(folder), folder.name))
    engines: dict[str, str] = {
        device: f"runs, {trial.max_abs_error.get('fp32', 0.0):.1e}" if trial.runs else trial.reason
        for device, trial in manifest.engines.items()
        if device != "cpu"
    }
    return Outcome(kind, use, _architecture(folder), manifest.graph.layout, found, engines=engines)


def largest_difference(version: Path, manifest: Manifest, checkpoint: Checkpoint) -> float:
    """Of any logit, between the published graph, each row alone and all in one tensor, and transformers, each text alone.

    Classifiers are compared from the text on, through transformers' own tokenizer; of question answering the rows are compared,
    since transformers has no windows of ours.
    """
    offline = training_task(manifest.task, manifest.task_options)
    tokenizer = Tokenizer.from_file(version / manifest.tokenizer, manifest.max_tokens)
    session = EncoderEngine(version / manifest.graph.file, manifest.graph, choose_provider("cpu"), num_threads=1)
    if manifest.task == "text-classification":
        texts: list[str | Pair] = [*SENTENCES[::3], " ".join(SENTENCES * 4), *zip(SENTENCES[::6], SENTENCES[1::6], strict=True)]
        rows = [Row(window.input_ids, window.token_type_ids) for window, *_ in tokenizer.windows(texts)]
        expected = [_by_transformers(checkpoint, text, manifest.max_tokens) for text in texts]
    else:
        rows = spread(probe_rows(offline, tokenizer, manifest.task_options), 8)
        runner = TorchRunner(checkpoint.model, manifest.graph)
        expected = [runner.run_alone(row) for row in rows]
    alone = [session.run_together([row])[0] for row in rows]
    return max(_difference(expected, alone), _difference(expected, session.run_together(rows)))


def _by_transformers(checkpoint: Checkpoint, text: str | Pair, max_tokens: int) -> RowOutput:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.source.location)
    pair = text if isinstance(text, tuple) else (text,)
    fed = tokenizer(*pair, truncation=True, max_length=max_tokens, return_tensors="pt")
    accepted = accepted_inputs(checkpoint.model)  # some tokenizers send what their models do not take
    with torch.no_grad():
        outputs = checkpoint.model(**{name: tensor for name, tensor in fed.items() if name in accepted}, return_dict=True)
    return {"logits": head_logits(outputs)[0].numpy()}


def _difference(expected: Sequence[RowOutput], found: Sequence[RowOutput]) -> float:
    errors = [np.abs(one["logits"] - other["logits"]).max() for one, other in zip(expected, found, strict=True)]
    return float(np.max(errors))


def describe(outcome: Outcome) -> str:
    """A line for the terminal."""
    name = f"{outcome.kind}-{outcome.use}"
    if outcome.layout:
        engines = "".join(f"; {engine} {said}" for engine, said in outcome.engines.items())
        return f"{name:<24}{outcome.layout:<8} {outcome.max_error:.1e}{engines}"
    return f"{name:<24}{'CRASH' if outcome.crash else 'refused'}: {outcome.crash or outcome.refusal}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Kinds by uses in Markdown, with the sentences of refusals below."""
    uses = sorted({one.use for one in outcomes}, key=lambda use: (use not in ("seq", "seq2"), use))
    cells: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for one in outcomes:
        cells[one.kind][one.use] = one
    reasons: list[str] = []
    lines = [f"| kind | {' | '.join(uses)} | other engines |", f"|---|{'---|' * (len(uses) + 1)}"]
    for kind, by_use in sorted(cells.items()):
        shown = [_cell(by_use.get(use), reasons) for use in uses]
        engines = sorted({f"{engine} {_briefly(said)}" for one in by_use.values() for engine, said in one.engines.items()})
        lines.append(f"| {kind} | {' | '.join(shown)} | {', '.join(engines)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))])


def _cell(outcome: Outcome | None, reasons: list[str]) -> str:
    if outcome is None:
        return ""
    if outcome.layout:
        return f"{outcome.layout} {outcome.max_error:.0e}"
    reason = outcome.crash or outcome.refusal
    if reason not in reasons:
        reasons.append(reason)
    return f"{'**crash**' if outcome.crash else 'refused'} ({reasons.index(reason) + 1})"


def _briefly(said: str) -> str:
    return "runs" if said.startswith("runs") else "does not"


def write_table(page: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the table between the marks of a page; of a page that is not there, it is all."""
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{after}", encoding="utf-8")


def _child(folder: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    connection.send(measure(folder))


def _named(folder: Path) -> tuple[str, str]:
    kind, _, use = folder.name.rpartition("-")
    return (kind, use) if kind else (use, "")


def _architecture(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next(iter(config.get("architectures") or []), "")


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.compatibility", description=__doc__, allow_abbrev=False)
    made.add_argument("folder", help="a folder of checkpoints")
    made.add_argument("--output", default="", help="the page whose table is written")
    made.add_argument("--json", default="", help="where the outcomes are written as json")
    return made


if __name__ == "__main__":
    sys.exit(main())
