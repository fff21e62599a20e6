"""What cutting tensors to their rows saves: the same batches in one tensor of the usual width and in fitted ones, in turns.

Through the production session with one thread, as for batches side by side. Run from a checkout:
`python -m scripts.bench.fitting --output scripts/bench/results/fitting.json`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from app.core.manifest import read_manifest
from app.core.types import LayoutName, Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.layout import num_computed_tokens, plan
from app.runtime.providers import Provider
from app.runtime.shapes import Part, parts
from scripts.bench.ceiling import rows_of
from scripts.bench.report import machine_before, write_json
from scripts.bench.texts import PROFILES, profile_texts


class UsualWidth(Provider):
    """A CPU whose batches lie in one tensor each, as they do where other shapes were not measured."""

    @property
    def exact_shapes(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Compared:
    """Batches of so many texts in either kind of tensors."""

    precision: str
    profile: str
    num_rows: int
    usual_ms: float
    """Median of the batches' times, each the median of its turns."""
    fitted_ms: float
    usual_filled: float
    """Share of the computed tokens that are a text's."""
    fitted_filled: float
    ratio: float
    """Median over the batches of the fitted tensors' time to the usual one's."""

    def __str__(self) -> str:
        times = f"{self.usual_ms:6.1f} and {self.fitted_ms:6.1f} ms"
        filled = f"{self.usual_filled:.2f} and {self.fitted_filled:.2f} filled"
        return f"{self.precision} {self.profile:5} {self.num_rows:3} rows: {times}, ratio {self.ratio:.2f}, {filled}"


def compare(folder: Path, options: argparse.Namespace) -> Iterator[Compared]:
    """Every precision, profile and number of rows."""
    manifest = read_manifest(folder)
    for precision in options.precision:
        file = folder / manifest.graph.file_for(precision)
        sessions = {
            name: EncoderEngine(file, manifest.graph, kind("cpu", precision, "for the comparison"), 1)
            for name, kind in (("usual", UsualWidth), ("fitted", Provider))
        }
        for profile in options.profile:
            rows = rows_of(folder, profile_texts(profile))
            for num_rows in options.rows:
                batches = [rows[start : start + num_rows] for start in range(0, num_rows * options.batches, num_rows)]
                taken = [_times(sessions, batch, options.turns) for batch in batches]
                yield _compared(precision, profile, batches, taken, manifest.graph.layout)


def _compared(
    precision: str,
    profile: str,
    batches: Sequence[Sequence[Row]],
    taken: Sequence[Mapping[str, float]],
    layout: LayoutName,
) -> Compared:
    lengths = [[row.num_tokens for row in batch] for batch in batches]
    return Compared(
        precision,
        profile,
        num_rows=len(batches[0]),
        usual_ms=round(median(one["usual"] for one in taken), 2),
        fitted_ms=round(median(one["fitted"] for one in taken), 2),
        usual_filled=_filled(lengths, [[Part(range(len(one)), plan(one, layout, fixed_shapes=False))] for one in lengths]),
        fitted_filled=_filled(lengths, [parts(one, layout) for one in lengths]),
        ratio=round(median(one["fitted"] / one["usual"] for one in taken), 3),
    )


def _times(sessions: Mapping[str, EncoderEngine], batch: Sequence[Row], turns: int) -> dict[str, float]:
    """Milliseconds of the batch in each session, the median of so many turns."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(turns):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run_rows(batch)
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: median(times) for name, times in taken.items()}


def _filled(lengths: Sequence[Sequence[int]], made: Sequence[Sequence[Part]]) -> float:
    num_computed = sum(num_computed_tokens(part.where) for tensors in made for part in tensors)
    return round(sum(map(sum, lengths)) / num_computed, 3)


def main(arguments: Sequence[str] | None = None) -> int:
    options, load = parser().parse_args(arguments), os.getloadavg()
    found = []
    for one in compare(options.models / options.model, options):
        print(one, flush=True)
        found.append(one)
    if options.output:
        report = {
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine_before(load),
            "model": options.model,
            "batches": options.batches,
            "turns": options.turns,
            "compared": [asdict(one) for one in found],
        }
        write_json(options.output, report)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m scripts.bench.fitting", description=str(__doc__).splitlines()[0])
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment/1", metavar="NAME/VERSION", help="classifies texts (sentiment/1)")
    made.add_argument("--precision", nargs="+", choices=["int8", "fp32"], default=["int8", "fp32"], help="(int8 fp32)")
    made.add_argument("--profile", nargs="+", choices=PROFILES, default=["short", "mixed"], help="which texts (short mixed)")
    made.add_argument("--rows", nargs="+", type=int, default=[4, 16, 40], metavar="N", help="texts of a batch (4 16 40)")
    made.add_argument("--batches", type=int, default=10, metavar="N", help="different batches of each kind (10)")
    made.add_argument("--turns", type=int, default=5, metavar="N", help="times that each is run (5)")
    made.add_argument("--output", type=Path, metavar="FILE", help="file for the report")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
