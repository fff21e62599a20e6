"""How many tokens a second a model writes, alone and beside others, without a service around it.

    python -m scripts.bench.generation --model models/writer/1 --output generation.json
    python -m scripts.bench.generation --model models/chat/1 --shared-tokens 1000

The sequences of a run begin together and do not end before they have so many tokens. On a machine that does other things as
well compare the tokens of a second of processor time.

With `--shared-tokens` it is measured how long the first token of a text takes that begins as the one before it does: where that
beginning is read again, and where it is not, by turns. With `--schema` what a step of texts that are held to it takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np

from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import PrecisionChoice, choose_provider, for_decoder, for_model, integer_precisions
from app.runtime.sampling import TokenSampler
from app.tasks.constraints import GrammarCompiler, OutputFormat
from app.tasks.tokenizer import Tokenizer
from scripts.bench.report import measurement_parser, run_measurement
from scripts.export.seq2seq.steps import open_engine_of


def open_writer(folder: Path, num_rows: int, num_threads: int = 0, precision: PrecisionChoice = "auto") -> GenerationEngine:
    """A version on the processor, in the precision in which it would be served.

    Raises:
        InvalidArtefact: it does not write.
    """
    manifest = read_manifest(folder)
    if manifest.decoder is None:
        raise InvalidArtefact(f"{folder} holds a model that reads and does not write")
    provider = for_model(choose_provider("cpu"), manifest, integer_precisions(), precision)
    stepping = for_decoder(provider, manifest, precision)
    encoder_file = folder / manifest.graph.file_for(provider.precision)
    file = folder / manifest.decoder.file_for(stepping.precision)
    return open_engine_of(encoder_file, file, manifest, provider, num_rows, num_threads, stepping, keeps_prefixes=True)


def rates(engine: GenerationEngine, rows: Sequence[Row], sampling: SamplingParams, runs: int) -> dict[str, float]:
    """Tokens a second, and a second of processor time, of the best of some runs; all sequences are written together."""
    engine.generate(rows, sampling)
    num_tokens = len(rows) * sampling.max_new_tokens
    per_s, per_cpu_s = 0.0, 0.0
    for _ in range(runs):
        began, began_cpu = time.perf_counter(), time.process_time()
        engine.generate(rows, sampling)
        per_s = max(per_s, num_tokens / (time.perf_counter() - began))
        per_cpu_s = max(per_cpu_s, num_tokens / (time.process_time() - began_cpu))
    return {"tokens_per_s": round(per_s, 1), "tokens_per_cpu_s": round(per_cpu_s, 1)}


def held_to_a_form(engine: GenerationEngine, row: Row, sampling: SamplingParams, sequences: Sequence[int], runs: int) -> Any:
    """Milliseconds of processor time for a step of so many sequences: of the thread that takes the steps, and of all together.

    By turns: with the masks found out beside the steps, as in the service, and between them; the medians of some runs.
    """
    between = partial(patch.object, TokenSampler, "is_unprepared", property(lambda _: False))
    told: dict[str, Any] = {}
    for number in sequences:
        spent: dict[str, list[tuple[float, float]]] = {"beside": [], "between": []}
        for turn in range(2 * runs):
            way = "beside" if turn % 2 else "between"
            with nullcontext() if way == "beside" else between():
                began, began_all = time.thread_time(), time.process_time()
                engine.generate([row] * number, sampling)
                spent[way].append((time.thread_time() - began, time.process_time() - began_all))
        ms = {way: np.median(of_way, axis=0) / sampling.max_new_tokens * 1000 for way, of_way in spent.items()}
        told[str(number)] = {way: {"steps": round(own, 2), "all": round(both, 2)} for way, (own, both) in ms.items()}
    return told


def first_tokens(engine: GenerationEngine, rows: Sequence[Row]) -> dict[str, Any]:
    """How long the first token takes of rows that begin as the first one does: medians of seconds, without the first one's.

    Raises:
        AssertionError: a first token is another where the beginning was not read again.
    """
    ways = {"read_again": SamplingParams(1), "reused": SamplingParams(1, prefix_owner="")}
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for row in rows:  # by turns: what else the machine does comes to both alike
        written = []
        for way, sampling in ways.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            (output,) = engine.generate([row], sampling)
            seconds[way].append((time.perf_counter() - began, time.process_time() - began_cpu))
            written.append(output["token_ids"].tolist())
        if written[0] != written[1]:
            raise AssertionError(f"{written[0]} where all is read, {written[1]} where it is not")
    medians = {way: np.median(np.array(of_way[1:]), axis=0) for way, of_way in seconds.items()}
    told = {way: {"s": round(float(wall), 4), "cpu_s": round(float(cpu), 4)} for way, (wall, cpu) in medians.items()}
    ratio, cpu_ratio = medians["read_again"] / medians["reused"]
    return {**told, "times_as_fast": round(float(ratio), 2), "times_less_cpu": round(float(cpu_ratio), 2)}


def compiler_of(folder: Path) -> GrammarCompiler:
    """Of a version that writes.

    Raises:
        InvalidArtefact: it does not.
    """
    manifest = read_manifest(folder)
    if (decoder := manifest.decoder) is None:
        raise InvalidArtefact(f"{folder} holds a model that reads and does not write")
    tokenizer = Tokenizer.from_file(folder / (decoder.tokenizer or manifest.tokenizer), decoder.max_length)
    return GrammarCompiler(tokenizer, decoder.vocab_size, decoder.eos_token_ids, decoder.has_encoder)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.shared_tokens:
        return measure_shared(options)
    engine = open_writer(options.model, max(options.sequences) * options.beams, options.threads, options.precision)
    manifest = read_manifest(options.model)
    decoder = manifest.decoder
    first = (decoder.start_token_id,) if decoder is not None and decoder.has_encoder else ()
    sampling = SamplingParams(options.new_tokens, decoder_input_ids=first, num_beams=options.beams)
    rng = np.random.default_rng(0)
    num_source = min(options.source_tokens, manifest.max_tokens)
    sources = rng.integers(0, options.source_ids, (max(options.sequences), num_source)).tolist()
    rows = [Row(token_ids, [0] * num_source) for token_ids in sources]
    if options.schema:
        form = OutputFormat.of_schema(json.loads(options.schema))
        sampling = replace(sampling, constraint=compiler_of(options.model).compiled(form))
        milliseconds = held_to_a_form(engine, rows[0], sampling, options.sequences, options.runs)
        return {"precision": engine.decoder_provider.precision, "threads": engine.num_threads, "ms_per_step": milliseconds}
    written = {str(number): rates(engine, rows[:number], sampling, options.runs) for number in options.sequences}
    return {"precision": engine.decoder_provider.precision, "threads": engine.num_threads, "sequences": written}


def measure_shared(options: argparse.Namespace) -> dict[str, Any]:
    engine = open_writer(options.model, 4, options.threads, options.precision)
    if (decoder := read_manifest(options.model).decoder) is None or decoder.has_encoder:
        raise InvalidArtefact(f"{options.model} continues no text: nothing of its sources is shared")
    rng = np.random.default_rng(0)
    shared = rng.integers(0, options.source_ids, options.shared_tokens).tolist()
    ends = rng.integers(0, options.source_ids, (options.runs + 1, options.source_tokens)).tolist()
    rows = [Row([*shared, *end], [0] * (len(shared) + len(end))) for end in ends]
    sizes = {"shared_tokens": options.shared_tokens, "own_tokens": options.source_tokens, "texts": options.runs}
    head = {"precision": engine.decoder_provider.precision, "threads": engine.num_threads}
    return {**head, **sizes, "first_token": first_tokens(engine, rows)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.generation", __doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="a version's folder")
    parser.add_argument(
        "--sequences", type=int, nargs="+", default=[1, 16], metavar="N", help="that are written together (1 16)"
    )
    parser.add_argument("--beams", type=int, default=1, metavar="N", help="of each; 1: greedy (1)")
    parser.add_argument("--source-tokens", type=int, default=64, metavar="N", help="of each source (64)")
    parser.add_argument("--source-ids", type=int, default=1000, metavar="N", help="tokens that a source is drawn of (1000)")
    parser.add_argument(
        "--shared-tokens",
        type=int,
        default=0,
        metavar="N",
        help="that texts to continue begin with, before their own; 0: see above (0)",
    )
    parser.add_argument("--schema", default="", metavar="JSON", help="that texts are held to; see above")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="of each sequence (64)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: all cores (0)")
    parser.add_argument("--precision", choices=get_args(PrecisionChoice), default="auto", help="as HOOPER_PRECISION (auto)")
    parser.add_argument(
        "--runs", type=int, default=3, metavar="N", help="of which the best counts, or texts that follow the first (3)"
    )
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
