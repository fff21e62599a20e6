"""Models that write beside CTranslate2 and `generate` of transformers, on the same random weights, asked by turns.

    python -m scripts.peers.generation --output docs/measurements/generation.json
    python -m scripts.peers.generation --shapes tiny --turns 1 --seconds 1 --callers 4    whether all of it works
    python -m scripts.peers.generation --shapes small-mt --threads 1 --no-service         where the machine is busy

Weights are random, in the shapes of t5-small, bart-base, opus-mt and a translator of 3 layers of 256. The engines write
greedily, as many tokens for every text, with all cores. On a machine that does other things as well compare the tokens of a
second of processor time, of one thread. Over HTTP, callers ask one text after the other, each with a length of
its own: Hooper, and CTranslate2 behind a FastAPI that collects texts for 5 ms. The first run makes models and CTranslate2's
environment, which takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import torch
import transformers

from app.core.errors import SetupError
from app.core.manifest import read_manifest
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.providers import PrecisionChoice, available_cores
from scripts.bench.generation import open_writer
from scripts.bench.report import (
    describe_machine,
    markdown_table,
    measurement_parser,
    run_measurement,
    write_between_marks,
)
from scripts.bench.service import Address, StartedService, run_program, start_service
from scripts.peers.random_writers import SHAPES, TINY, UNUSED, WriterShape, make_writer
from scripts.peers.servers import ENVIRONMENTS, Peer, environment, start_peer

MODELS = ENVIRONMENTS / "random-writers"
SERVED = "opus-mt"
"""The shape that is asked over HTTP, where it is one of those that are measured; else the last of them is."""
QUICK: Mapping[str, Any] = {"shapes": ["t5-small", "small-mt", SERVED], "turns": 3, "seconds": 6.0, "classified": 10}
"""What `--quick` stands for."""
CLASSIFIER = Path("models/sentiment")
SERVER_FILE = Path(__file__).with_name("ctranslate2_server.py")


def ctranslate2_command(folder: Path, port: int, num_threads: int) -> Sequence[str]:
    return "python", str(SERVER_FILE), str(folder), str(port), str(num_threads), UNUSED


CT2 = Peer(
    name="ctranslate2",
    version="4.8.5",
    installs=(("install", "ctranslate2==4.8.5", "fastapi", "uvicorn", "numpy"),),
    command=lambda folder, port: ctranslate2_command(folder, port, available_cores()),
    path="/translate",
    body=lambda text: {"text": text},
)  # fmt: skip
LENGTHS = (5, 120)
"""Tokens of the shortest and the longest text that is asked for over HTTP."""
STREAMING = 4
"""Of the callers of Hooper, those who read a stream, and tell when its first token came."""
NUM_BESIDE = 16
"""Texts that are being written while a text is classified."""
WRITE = "/v1/generate"
WHOSE_FIRST = (
    "The first token of Hooper is the one that callers saw in a stream, that of CTranslate2 the one that its server knew of."
)
Engine = Callable[[int], tuple[float, float]]
"""From a number of texts to the seconds in which all of them were written, and the seconds of processor time."""


# --- engines


def sources(shape: WriterShape, count: int, num_tokens: int) -> list[list[int]]:
    """Token ids of so many texts, the end of a text included."""
    rng = random.Random(0)
    eos = next(number for number, word in shape.specials.items() if word == "</s>")
    return [[*(rng.randrange(10, 1000) for _ in range(num_tokens - 1)), eos] for _ in range(count)]


def timed(write: Callable[[int], object]) -> Engine:
    """Of an engine in this process."""

    def run(count: int) -> tuple[float, float]:
        began, began_cpu = time.perf_counter(), time.process_time()
        write(count)
        return time.perf_counter() - began, time.process_time() - began_cpu

    return run


def hooper_engine(
    folder: Path, rows: Sequence[Sequence[int]], num_new: int, precision: PrecisionChoice, num_threads: int
) -> Engine:
    engine = open_writer(folder, len(rows), num_threads, precision)
    decoder = read_manifest(folder).decoder
    sampling = SamplingParams(num_new, decoder_input_ids=() if decoder is None else (decoder.start_token_id,))
    prepared = [Row(row, [0] * len(row)) for row in rows]

    return timed(lambda count: engine.generate(prepared[:count], sampling))


def transformers_engine(checkpoint: Path, rows: Sequence[Sequence[int]], num_new: int, num_threads: int) -> Engine:
    torch.set_num_threads(num_threads or available_cores())
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(checkpoint).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.forced_eos_token_id = None
    ids = torch.tensor(rows)

    return timed(
        lambda count: model.generate(
            ids[:count], attention_mask=torch.ones_like(ids[:count]), max_new_tokens=num_new, num_beams=1, do_sample=False
        )
    )


def ctranslate2_engine(peer: Address, words: Sequence[Sequence[str]], num_new: int, precision: str) -> Engine:
    def write(count: int) -> tuple[float, float]:
        body = {"sources": words[:count], "new_tokens": num_new, "precision": precision}
        answer = peer.post("/measure", body)
        lengths = {len(tokens) for tokens in answer["tokens"]}
        if lengths != {num_new}:
            raise SetupError(f"CTranslate2 wrote {sorted(lengths)} tokens, where {num_new} were asked for")
        return float(answer["wall_s"]), float(answer["cpu_s"])

    return write


def converted(checkpoint: Path) -> Path:
    """The checkpoint as CTranslate2 reads it. Its converter runs with our transformers, which it needs for that alone."""
    folder = checkpoint.with_name("ctranslate2")
    if not (folder / "model.bin").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        converter = "from ctranslate2.converters.transformers import main; main()"
        words: list[str | Path] = [environment(CT2) / "python", "-c", converter, "--model", checkpoint, "--output_dir", folder]
        run_program(words, "ct2-transformers-converter", {"PYTHONPATH": sysconfig.get_path("purelib")})
    return folder


def measure_engines(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens a second of each engine, for each number of texts, over the turns."""
    shape, checkpoint = SHAPES[name], make_writer(name, SHAPES[name], MODELS / name)
    rows = sources(shape, max(options.sequences), options.source_tokens)
    words = [[f"w{number}" for number in row[:-1]] + ["</s>"] for row in rows]
    version, num_new = checkpoint.with_name("models") / name / "1", options.new_tokens
    threads = options.threads
    server = replace(CT2, command=lambda folder, port: ctranslate2_command(folder, port, threads)) if threads else CT2
    with start_peer(server, environment(CT2), converted(checkpoint)) as peer:
        engines: dict[str, Engine] = {
            "Hooper int8": hooper_engine(version, rows, num_new, "auto", threads),
            "CTranslate2 int8": ctranslate2_engine(peer.address, words, num_new, "int8"),
            "Hooper fp32": hooper_engine(version, rows, num_new, "fp32", threads),
            "CTranslate2 fp32": ctranslate2_engine(peer.address, words, num_new, "fp32"),
            "transformers fp32": transformers_engine(checkpoint, rows, num_new, threads),
        }
        seconds: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
        for count in options.sequences:
            for turn in range(options.turns + 1):
                for engine in turned(list(engines), turn):
                    taken = engines[engine](count)
                    if turn:  # the first one warms up
                        seconds[count, engine].append(taken)
    return [
        {"model": name, "sequences": count, "engine": engine, **rates(num_new * count, times)}
        for (count, engine), times in seconds.items()
    ]


def rates(num_tokens: int, times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Tokens a second, and a second of processor time, of some turns in which so many were written."""
    cpu_s = median(taken for _, taken in times)
    return {**spread(num_tokens / taken for taken, _ in times), "tokens_per_cpu_s": round(num_tokens / cpu_s, 1)}


def turned(entries: Sequence[str], turn: int) -> list[str]:
    """In another order each turn: nobody is always asked behind the same one."""
    return [*entries[turn % len(entries) :], *entries[: turn % len(entries)]]


def spread(figures: Iterator[float]) -> dict[str, float]:
    """Tokens a second: the median over the turns, and half the distance of the quartiles in parts of it."""
    values = list(figures)
    low, _, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"tokens_per_s": round(median(values), 1), "noise": round((high - low) / 2 / median(values), 3)}


# --- over HTTP


@dataclass(frozen=True, slots=True)
class Asked:
    """What callers saw of one service in one turn."""

    tokens_per_s: float
    first_token_s: list[float]
    answer_s: list[float]


Ask = Callable[[httpx.AsyncClient, int, str, int], Any]
"""From a client, the caller's number, a text and its new tokens to seconds to its first token, or None where it cannot tell."""


async def ask_hooper(client: httpx.AsyncClient, caller: int, text: str, num_new: int, model: str = SERVED) -> float | None:
    body = {"model": model, "inputs": text, "max_new_tokens": num_new, "num_beams": 1, "temperature": 0}
    if caller >= STREAMING:
        (await client.post(WRITE, json=body)).raise_for_status()
        return None
    began, first = time.perf_counter(), None
    async with client.stream("POST", WRITE, json={**body, "stream": True}) as response:
        response.raise_for_status()
        async for _ in response.aiter_raw():
            first = first or time.perf_counter() - began
    return first


async def ask_ctranslate2(client: httpx.AsyncClient, caller: int, text: str, num_new: int) -> float | None:
    body = {"text": f"{text} </s>", "max_new_tokens": num_new, "precision": "int8"}
    answer = (await client.post("/translate", json=body)).raise_for_status()
    first: float = answer.json()["first_token_s"]
    return first


async def callers(address: Address, ask: Ask, num_callers: int, seconds: float, seed: int) -> Asked:
    """Ask for so many seconds; each caller waits for an answer before it asks again."""
    firsts: list[float] = []
    answers: list[float] = []
    written = 0
    began = time.perf_counter()

    async def call(client: httpx.AsyncClient, caller: int) -> None:
        nonlocal written
        rng = random.Random(f"{seed} {caller}")
        while True:
            text = " ".join(f"w{rng.randrange(10, 1000)}" for _ in range(rng.randint(5, 60)))
            num_new = rng.randint(*LENGTHS)
            asked = time.perf_counter()
            first = await ask(client, caller, text, num_new)
            answers.append(time.perf_counter() - asked)
            firsts.extend([] if first is None else [first])
            written += num_new
            if time.perf_counter() - began >= seconds:
                return

    limits = httpx.Limits(max_connections=num_callers)
    async with httpx.AsyncClient(base_url=address.url, timeout=300, limits=limits) as client:
        await asyncio.gather(*(call(client, number) for number in range(num_callers)))
    return Asked(written / (time.perf_counter() - began), firsts, answers)


async def classify_beside(address: Address, ask: Ask, num_beside: int, count: int) -> float:
    """Median seconds of a classified text while so many texts are written."""
    async with httpx.AsyncClient(base_url=address.url, timeout=300, limits=httpx.Limits(max_connections=None)) as client:

        async def write() -> None:
            while True:
                await ask(client, STREAMING, "w11 w12 w13 w14 w15", LENGTHS[1])

        writing = [asyncio.create_task(write()) for _ in range(num_beside)]
        await asyncio.sleep(1.0 if num_beside else 0.0)
        taken = []
        for number in range(count):
            began = time.perf_counter()
            body = {"model": CLASSIFIER.name, "inputs": f"The film was very good, number {number}."}
            (await client.post("/v1/classify", json=body)).raise_for_status()
            taken.append(time.perf_counter() - began)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
    return median(taken)


@contextmanager
def served(checkpoint: Path) -> Iterator[StartedService]:
    """Hooper with the model that is asked, and beside it a classifier."""
    models = checkpoint.with_name("models")
    if not (models / CLASSIFIER.name).exists():
        shutil.copytree(CLASSIFIER, models / CLASSIFIER.name)
    with start_service({"HOOPER_MODELS": str(models), "HOOPER_DEVICE": "cpu"}) as service:
        yield service


def measure_service(options: argparse.Namespace) -> dict[str, Any]:
    """Both services under the same callers, by turns; and a classifier beside what Hooper writes."""
    name = SERVED if SERVED in options.shapes else options.shapes[-1]
    checkpoint, write = make_writer(name, SHAPES[name], MODELS / name), partial(ask_hooper, model=name)
    seen: dict[str, list[Asked]] = defaultdict(list)
    with ExitStack() as stack:
        peer = stack.enter_context(start_peer(CT2, environment(CT2), converted(checkpoint)))
        hooper = stack.enter_context(served(checkpoint))
        services: dict[str, tuple[Address, Ask]] = {
            "Hooper int8": (hooper.address, write),
            "CTranslate2 int8 behind FastAPI": (peer.address, ask_ctranslate2),
        }
        for turn in range(options.turns):
            for service in turned(list(services), turn):
                address, ask = services[service]
                seen[service].append(asyncio.run(callers(address, ask, options.callers, options.seconds, turn)))
        classified: dict[int, list[float]] = {0: [], NUM_BESIDE: []}
        for _ in range(options.turns):
            for num_beside, medians in classified.items():
                medians.append(asyncio.run(classify_beside(hooper.address, write, num_beside, options.classified)))
    alone, beside = map(median, classified.values())
    return {
        "served": name,
        "callers": [{"service": service, **_over_http(turns)} for service, turns in seen.items()],
        "classified_ms": {"alone": _milliseconds([alone]), f"beside {NUM_BESIDE} texts": _milliseconds([beside])},
        "classified_ratio": round(beside / alone, 2),
    }


def _over_http(turns: Sequence[Asked]) -> dict[str, float]:
    return {
        **spread(turn.tokens_per_s for turn in turns),
        "first_token_p50_ms": _milliseconds([median(turn.first_token_s) for turn in turns if turn.first_token_s]),
        "answer_p50_ms": _milliseconds([median(turn.answer_s) for turn in turns]),
    }


def _milliseconds(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 1)


# --- the report


def ratios(engines: Sequence[Mapping[str, Any]], figure: str = "tokens_per_s") -> list[dict[str, Any]]:
    """Tokens a second of Hooper in parts of each other engine's, in the same precision, or against transformers in its best."""
    by_case = {(row["model"], row["sequences"], row["engine"]): row[figure] for row in engines}
    pairs = [
        ("Hooper int8", "CTranslate2 int8"), ("Hooper fp32", "CTranslate2 fp32"), ("Hooper int8", "transformers fp32"),
        ("Hooper fp32", "transformers fp32"),
    ]  # fmt: skip
    cases = dict.fromkeys((row["model"], row["sequences"]) for row in engines)
    return [
        {"model": model, "sequences": count}
        | {f"{own} / {other}": round(by_case[model, count, own] / by_case[model, count, other], 2) for own, other in pairs}
        for model, count in cases
    ]


def page(report: Mapping[str, Any]) -> str:
    """The figures as tables."""
    http = report.get("http")
    head = (
        f"`make bench-generate` on {describe_machine()['processor']}, {available_cores()} cores. Random weights in the shapes"
        f" of the models; {report['new_tokens']} tokens for each text, greedily, threads of each engine: {report['threads']}."
        f" Tokens a second: median of {report['turns']} turns, and half the distance of their quartiles."
    )
    parts = [
        head,
        _table(report["engines"]),
        "How many times as many tokens:",
        _table(report["ratios"]),
        "And in a second of processor time:",
        _table(report["cpu_ratios"]),
    ]
    if http:
        classified = ", ".join(f"{where} {taken} ms" for where, taken in http["classified_ms"].items())
        parts += [
            f"{http['served']} over HTTP, texts of {LENGTHS[0]} to {LENGTHS[1]} tokens. {WHOSE_FIRST}",
            _table(http["callers"]),
            f"A text classified by the same service (median): {classified}, {http['classified_ratio']} times as long.",
        ]
    return "\n\n".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(markdown_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    engines = [row for name in options.shapes for row in measure_engines(name, options)]
    sizes = {"new_tokens": options.new_tokens, "turns": options.turns, "threads": options.threads or available_cores()}
    by_cpu = ratios(engines, "tokens_per_cpu_s")
    report: dict[str, Any] = {**sizes, "engines": engines, "ratios": ratios(engines), "cpu_ratios": by_cpu}
    if not options.no_service:
        report["http"] = measure_service(options)
    if options.page is not None:
        write_between_marks(options.page, page(report))
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.peers.generation", __doc__)
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        default=[name for name in SHAPES if name != TINY],
        help=f"of the random weights (all but {TINY})",
    )
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 16], metavar="N", help="written together (1 16)")
    parser.add_argument("--source-tokens", type=int, default=40, metavar="N", help="of each source (40)")
    parser.add_argument("--new-tokens", type=int, default=32, metavar="N", help="of each text (32)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="of which the median counts (5)")
    parser.add_argument("--callers", type=int, default=32, metavar="N", help="over HTTP at the same time (32)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="that each service is asked in a turn (10)")
    parser.add_argument("--classified", type=int, default=20, metavar="N", help="texts classified in a turn (20)")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK['turns']} turns of {', '.join(QUICK['shapes'])}: at most ten minutes"
    )
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="put tables between the marks of this page")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of each engine; 0: all cores (0)")
    parser.add_argument("--no-service", action="store_true", help="engines alone")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
