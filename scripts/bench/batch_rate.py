"""How near `hooper batch` comes to the engine alone: both in turn, several times, since a machine's pace changes.

The engine alone gets rows that were tokenized beforehand, in full batches in the order of the texts, and nothing is done with
what it answers. `hooper batch` reads the same texts from a file, and writes and syncs the answers. Run from a checkout:
`python -m scripts.bench.batch_rate --profile short mixed`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from scripts.bench.ceiling import engine_ceiling
from scripts.bench.report import machine_before, write_json
from scripts.bench.texts import PROFILES, Profile, profile_texts


@dataclass(frozen=True, slots=True)
class Turn:
    """The engine alone before and after, and the command between them, in texts a second."""

    engine_before: float
    batch: float
    engine_after: float

    @property
    def ratio(self) -> float:
        return self.batch / mean((self.engine_before, self.engine_after))


def turns(options: argparse.Namespace, profile: Profile) -> list[Turn]:
    """One after the other; the engine's figure after one turn is that before the next."""
    texts = profile_texts(profile)
    engine = [_engine(options, texts)]
    found = []
    for _ in range(options.turns):
        batch = _batch(options, texts, int(engine[-1] * options.seconds))
        engine.append(_engine(options, texts))
        found.append(Turn(engine[-2], batch, engine[-1]))
    return found


def _engine(options: argparse.Namespace, texts: Sequence[str]) -> float:
    return engine_ceiling(
        options.models / options.model, texts, options.device, options.threads,
        options.max_batch_tokens, options.max_batch_rows, options.seconds,
    ).texts_per_s  # fmt: skip


def _batch(options: argparse.Namespace, texts: Sequence[str], num_rows: int) -> float:
    """The rate that the command itself tells: from its first row to its last, without loading the model."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"id": id, "text": text}) + "\n" for id, text in enumerate(islice(cycle(texts), num_rows))
            )
        words = [sys.executable, "-m", "app.cli", "batch", str(source), str(Path(folder) / "answers.jsonl"), "--json"]
        words += ["--models", str(options.models), "--model", options.model, "--device", options.device]
        words += ["--engine-threads", str(options.threads), "--max-batch-rows", str(options.max_batch_rows)]
        words += ["--max-batch-tokens", str(options.max_batch_tokens)]
        ran = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    told = json.loads(ran.stdout)
    if (told["rows"], told["failed"]) != (num_rows, 0):
        raise SystemExit(f"{num_rows} rows were given, the command tells {told}")
    return float(told["rows_per_s"])


def main(arguments: Sequence[str] | None = None) -> int:
    options, load = parser().parse_args(arguments), os.getloadavg()
    found: dict[str, list[Turn]] = {}
    for profile in options.profile:
        found[profile] = turns(options, profile)
        for turn in found[profile]:
            around = f"engine alone {turn.engine_before:,.0f} before, {turn.engine_after:,.0f} after"
            print(f"{profile:6} ratio {turn.ratio:.3f}  batch {turn.batch:,.0f} texts/s, {around}", flush=True)
    write_json(options.output, _report(options, load, found))
    return 0


def _report(options: argparse.Namespace, load: Sequence[float], found: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_before(load),
        "model": options.model, "device": options.device, "threads": options.threads, "seconds": options.seconds,
        "profiles": {profile: _told(turns) for profile, turns in found.items()},
    }  # fmt: skip


def _told(turns: Sequence[Turn]) -> dict[str, Any]:
    return {
        "median_ratio": round(median(one.ratio for one in turns), 3),
        "ratios": [round(one.ratio, 3) for one in turns],
        "batch_texts_per_s": [round(one.batch, 1) for one in turns],
        "engine_texts_per_s": [round(one.engine_before, 1) for one in turns] + [round(turns[-1].engine_after, 1)],
    }


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.bench.batch_rate", description=str(__doc__).splitlines()[0])
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment/1", metavar="NAME/VERSION", help="classifies texts (sentiment/1)")
    made.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine; 0: all cores (0)")
    made.add_argument("--max-batch-tokens", type=int, default=1024, metavar="N", help="tokens of a batch (1024)")
    made.add_argument("--max-batch-rows", type=int, default=64, metavar="N", help="rows of a batch (64)")
    made.add_argument("--profile", nargs="+", choices=PROFILES, default=["short", "mixed"], help="which texts (short mixed)")
    made.add_argument("--seconds", type=float, default=10.0, metavar="S", help="about so long for each figure (10)")
    made.add_argument("--turns", type=int, default=2, metavar="N", help="times of everything (2)")
    made.add_argument("--output", type=Path, metavar="FILE", help="also write the figures here, as JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
