"""Where the processor's time of a decoder's step goes: inside ONNX Runtime, and around it.

    python -m scripts.bench.decode_steps --model models/writer/1

Greedy texts are written together by an engine of one thread, in two ways: `engine` where the caller is, `thread` from an event
loop that hands each step over to the engine's thread, as the service does. All figures are microseconds of processor time for a
step, in which every text gets a token: they say the same on a machine that does other things as well. What comes before the
first step, as reading the sources, is left out. The ways take turns, and the smallest figure counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest
from app.core.sequences import Batch, Phase, SamplingParams
from app.core.sequences import Sequence as GeneratedSequence
from app.core.types import Row
from app.runtime.decoder_session import BoundSession, open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.onnx_session import InputInfo
from app.runtime.providers import PrecisionChoice, choose_provider, for_decoder, for_model, integer_precisions
from scripts.bench.report import measurement_parser, run_measurement

Write = Callable[[Sequence[Row], SamplingParams], Awaitable[None]]
"""Write from these rows together."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of processor time inside of runs and around them, and how many runs there were."""

    inside_s: float
    around_s: float
    num_runs: int


class PassedOn:
    """A decoder's session that hands everything but its runs on to another one."""

    def __init__(self, session: BoundSession) -> None:
        self._session = session

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._session.get_inputs()

    def get_outputs(self) -> Sequence[InputInfo]:
        return self._session.get_outputs()

    def get_providers(self) -> list[str]:
        return self._session.get_providers()


class TimedSession(PassedOn):
    """Adds up the processor time of its runs, which must have one thread."""

    def __init__(self, session: BoundSession) -> None:
        super().__init__(session)
        self.num_runs, self.inside_s = 0, 0.0

    def run_with_iobinding(self, binding: Any, options: Any, /) -> None:
        began = time.thread_time()
        self._session.run_with_iobinding(binding, options)
        self.inside_s += time.thread_time() - began
        self.num_runs += 1


class DecodeBench:
    """An engine, and the ways to write with it."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """
        Raises:
            InvalidArtefact: the version does not write.
        """
        manifest = read_manifest(folder)
        decoder = manifest.decoder
        if decoder is None:
            raise InvalidArtefact(f"{folder} holds a model that reads and does not write")
        num_rows = max(options.sequences)
        provider = for_model(choose_provider("cpu"), manifest, integer_precisions(), options.precision)
        stepping = for_decoder(provider, manifest, options.precision)
        file = folder / decoder.file_for(stepping.precision)
        graph_file = folder / manifest.graph.file_for(provider.precision)
        encoder = EncoderEngine(graph_file, manifest.graph, provider, 1) if decoder.has_encoder else None
        self._session = TimedSession(open_decoder(file, decoder, stepping, 1))
        self._engine = GenerationEngine(manifest, encoder, file, self._session, stepping, num_rows, 1)
        num_tokens = min(options.source_tokens, manifest.max_tokens)
        sources = np.random.default_rng(0).integers(0, options.source_ids, (num_rows, num_tokens)).tolist()
        self._rows = [Row(token_ids, [0] * num_tokens) for token_ids in sources]
        self._first = (decoder.start_token_id,) if decoder.has_encoder else ()
        self.ways: Mapping[str, Write] = {"engine": self._with_engine, "thread": self._on_thread}

    async def taken(self, write: Write, num_texts: int, num_new_tokens: int) -> Taken:
        """What it takes to write texts of so many tokens."""
        began, inside_s, num_runs = time.process_time(), self._session.inside_s, self._session.num_runs
        await write(self._rows[:num_texts], SamplingParams(num_new_tokens, decoder_input_ids=self._first))
        inside_s = self._session.inside_s - inside_s
        return Taken(inside_s, time.process_time() - began - inside_s, self._session.num_runs - num_runs)

    async def aclose(self) -> None:
        await self._engine.aclose()

    async def _with_engine(self, rows: Sequence[Row], sampling: SamplingParams) -> None:
        self._engine.generate(rows, sampling)

    async def _on_thread(self, rows: Sequence[Row], sampling: SamplingParams) -> None:
        running = [GeneratedSequence(row, sampling, cache_slot=number) for number, row in enumerate(rows)]
        phase: Phase = "prefill"
        while running:
            step = await self._engine.forward(Batch(phase, running))
            running = [sequence for sequence, ended in zip(running, step.is_finished, strict=True) if not ended]
            phase = "decode"
        self._engine.release(range(len(rows)))


async def measure_version(options: argparse.Namespace) -> dict[str, Any]:
    """
    Raises:
        InvalidArtefact: the version does not write.
    """
    bench = DecodeBench(options.model, options)
    taken: dict[tuple[int, str], list[list[Taken]]] = defaultdict(list)
    for _ in range(options.turns):
        for number, way in product(options.sequences, bench.ways):
            lengths = (1, options.new_tokens)
            taken[number, way].append([await bench.taken(bench.ways[way], number, length) for length in lengths])
    await bench.aclose()
    return {"steps": [{"texts": number, "way": way, **_per_step(turns)} for (number, way), turns in taken.items()]}


def _per_step(turns: Sequence[Sequence[Taken]]) -> dict[str, int]:
    """Of texts of one token, which are left out, and of many."""
    first, many = [one for one, _ in turns], [other for _, other in turns]
    num_steps = max(1, many[0].num_runs - first[0].num_runs)

    def microseconds(of: Callable[[Taken], float]) -> int:
        return round(1e6 * (min(of(taken) for taken in many) - min(of(taken) for taken in first)) / num_steps)

    return {"inside_us": microseconds(lambda taken: taken.inside_s), "around_us": microseconds(lambda taken: taken.around_s)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.decode_steps", __doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="a version's folder")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 16], metavar="N", help="texts together (1 16)")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="of each text (64)")
    parser.add_argument("--precision", choices=get_args(PrecisionChoice), default="auto", help="as HOOPER_PRECISION (auto)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="of which the smallest figures count (5)")
    parser.add_argument("--source-tokens", type=int, default=40, metavar="N", help="of each source (40)")
    parser.add_argument("--source-ids", type=int, default=1000, metavar="N", help="tokens that a source is drawn of (1000)")
    return run_measurement(parser, lambda options: asyncio.run(measure_version(options)), arguments)


if __name__ == "__main__":
    sys.exit(main())
