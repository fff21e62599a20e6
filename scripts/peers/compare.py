"""Hooper, Hooper in fp32 and other servers on the same weights, all up and asked in turns, since a machine's pace changes.

    python -m scripts.peers.compare --peer infinity litserve --output scripts/peers/results

Whoever is not asked is stopped meanwhile (SIGSTOP): some servers keep a core busy while they wait.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from app.core.errors import HooperError, SetupError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from app.core.manifest import read_manifest
from scripts.bench.load import LoadResult, measure_closed_loop, model_state, prepared_request
from scripts.bench.report import OPTIONS, draw_bars, markdown_table, report_head, write_json
from scripts.bench.service import StartedService, start_service
from scripts.bench.texts import PROFILES, profile_texts
from scripts.peers.servers import PEERS, Scores, by_label, environment, start_peer
from scripts.peers.weights import write_transformers_folder

CHECKED_TEXTS = 8
MAX_DIFFERENCE = 1e-3
"""Of a probability, between servers that compute the same weights in fp32."""


def own_scores(answer: Any, labels: Sequence[str]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer["results"][0]["labels"]}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server, and a request of its own kind for each thing that is asked, such as a text of a profile."""

    title: str
    service: StartedService
    path: str
    body: Any
    """From what is asked to a request's body."""
    scores: Scores = by_label

    def requests(self, asked: Sequence[Any]) -> list[bytes]:
        return [prepared_request("localhost", self.path, self.body(item)) for item in asked]


@dataclass(frozen=True, slots=True)
class PeerResult:
    """What one contestant reached under one load; rate and latencies are medians over the turns."""

    profile: str
    connections: int
    title: str
    requests_per_s: float
    turns: Sequence[float]
    p50_ms: float
    p99_ms: float
    failed: int

    @classmethod
    def of(cls, title: str, profile: str, connections: int, turns: Sequence[LoadResult]) -> PeerResult:
        rates = [round(turn.requests_per_s, 1) for turn in turns]
        p50, p99 = (round(median(turn.percentile_ms(share) for turn in turns), 2) for share in (0.5, 0.99))
        return cls(
            profile, connections, title, round(median(rates), 1), rates, p50, p99, sum(turn.num_failed for turn in turns)
        )


def compare(
    contestants: Sequence[Contestant], profile: str, asked: Sequence[Any], connections: int, seconds: float, num_turns: int
) -> list[PeerResult]:
    """Each contestant in each turn; the first of a turn is another one each time."""
    results: dict[str, list[LoadResult]] = {contestant.title: [] for contestant in contestants}
    for turn in range(num_turns):
        first = turn % len(contestants)
        for contestant in [*contestants[first:], *contestants[:first]]:
            with others_stopped(contestant, contestants):
                requests = contestant.requests(asked)
                result = measure_closed_loop(contestant.service.address, requests, connections, seconds)
                results[contestant.title].append(result)
    return [PeerResult.of(title, profile, connections, turns) for title, turns in results.items()]


def uncalibrated(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The softmax of logits that were not divided by a temperature, which the others know nothing of."""
    powers = {label: score**temperature for label, score in scores.items()}
    return {label: power / sum(powers.values()) for label, power in powers.items()}


def check_answers(
    contestants: Sequence[Contestant], texts: Sequence[str], labels: Sequence[str], temperature: float = 1.0
) -> dict[str, float]:
    """Ask every contestant the same, one after the other.

    Args:
        contestants: ours among them.
        texts: what they are asked.
        labels: of the model.
        temperature: that our scores were calibrated with.

    Returns:
        Title to the largest difference of a probability from the last of ours, which is in fp32.

    Raises:
        SetupError: one of the others answers otherwise: it has not the same weights.
    """
    answers = {
        contestant.title: [
            contestant.scores(contestant.service.address.post(contestant.path, contestant.body(text)), labels) for text in texts
        ]
        for contestant in contestants
    }
    ours = [title for title in answers if title.startswith("Hooper")]
    answers |= {title: [uncalibrated(scores, temperature) for scores in answers[title]] for title in ours}
    expected, differences = answers[ours[-1]], dict[str, float]()
    for title, scores in answers.items():
        differences[title] = max(
            abs(row.get(label, 0.0) - wanted[label]) for row, wanted in zip(scores, expected, strict=True) for label in labels
        )
        if title not in ours and differences[title] > MAX_DIFFERENCE:
            raise SetupError(f"{title} answers otherwise, by up to {differences[title]:.3f} of a probability")
    return {title: float(f"{difference:.1g}") for title, difference in differences.items()}


@contextmanager
def others_stopped(contestant: Contestant, contestants: Sequence[Contestant]) -> Iterator[None]:
    """Only this one runs until the block ends."""
    with stopped([other.service for other in contestants if other is not contestant]):
        yield


@contextmanager
def stopped(services: Sequence[StartedService]) -> Iterator[None]:
    """These stand still until the block ends."""
    pids = [process.pid for service in services for process in service.stats.descendants()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Ours, ours in fp32 where that is another thing, and the others, load by load."""

    def body(text: str) -> object:
        return {"model": options.model, "inputs": text}

    settings = {"HOOPER_MODELS": str(options.models), "HOOPER_DEVICE": options.device, "HOOPER_SERVE": options.model}
    with ExitStack() as stack:
        service = stack.enter_context(start_service(settings))
        state = model_state(service.address, options.model)
        contestants = [Contestant(f"Hooper in {state['precision']}", service, "/v1/classify", body, own_scores)]
        if state["precision"] != "fp32":
            plain = stack.enter_context(start_service(settings | {"HOOPER_PRECISION": "fp32"}))
            contestants.append(Contestant("Hooper in fp32", plain, "/v1/classify", body, own_scores))
        binaries = {name: environment(PEERS[name]) for name in options.peer}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hooper-"))) / "model"
        write_transformers_folder(options.models / state["name"] / str(state["version"]), folder)
        for name in options.peer:
            started = stack.enter_context(start_peer(PEERS[name], binaries[name], folder))
            peer = PEERS[name]
            contestants.append(Contestant(peer.title, started, peer.path, peer.body, peer.scores))
        model = read_manifest(options.models / state["name"] / str(state["version"])).task_options
        differences = check_answers(
            contestants, profile_texts("short")[:CHECKED_TEXTS], model["labels"], model.get("temperature", 1.0)
        )
        standings = [
            standing
            for profile in options.profile
            for connections in options.connections
            for standing in compare(contestants, profile, profile_texts(profile), connections, options.seconds, options.turns)
        ]
    return {
        "model": f"{state['name']}/{state['version']}",
        "largest_difference_of_a_probability": differences,
        "standings": [asdict(standing) for standing in standings],
    }


def page(report: dict[str, Any]) -> str:
    """Each standing with the ratios of ours to it, which hold on other machines too, more or less."""
    standings, rows = report["standings"], []
    ours = {
        (result["profile"], result["connections"]): result for result in standings if result["title"] == standings[0]["title"]
    }
    for standing in standings:
        own = ours[standing["profile"], standing["connections"]]
        rate, p50 = standing["requests_per_s"], standing["p50_ms"]
        rows.append([
            standing["profile"], standing["connections"], standing["title"], rate,
            f"{own['requests_per_s'] / rate:.2f}" if rate else "no answer", p50, f"{own['p50_ms'] / p50:.2f}",
            standing["p99_ms"], standing["failed"],
        ])  # fmt: skip
    head = ("texts", "connections", "server", "requests/s", "ours to it", "p50 ms", "ours to it", "p99 ms", "failed")
    return "\n".join([
        f"# {report['model']} and peers on the same weights, on {report['machine']['processor']}", "",
        f"{report['taken']}. Asked in turns, one text a request, while the others stood still; ratios: the first line to each.",
        "",
        *markdown_table(head, rows), "", "![Requests a second under each load](peers.svg)", "",
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print a page, and keep it as peers.md, with peers.json and peers.svg, where `--output` says."""
    parser = argparse.ArgumentParser(prog="python -m scripts.peers.compare", description=str(__doc__).splitlines()[0])
    for name in ("models", "model", "device"):
        parser.add_argument(f"--{name}", **OPTIONS[name])
    parser.add_argument("--peer", nargs="+", choices=tuple(PEERS), default=list(PEERS), help="servers to compare with (all)")
    parser.add_argument("--profile", nargs="+", choices=PROFILES, default=list(PROFILES), help="which texts (all)")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 32], metavar="N", help="callers (1 32)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each turn (10)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="times that each is asked (3)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="keep peers.json, peers.md and peers.svg here")
    options, load = parser.parse_args(arguments), os.getloadavg()
    try:
        report = {**report_head(load), **measure(options)}
    except HooperError as error:
        print(f"compare: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    print(page(report))
    if options.output:
        keep(report, options.output)
    return EXIT_FAILED if any(standing["failed"] for standing in report["standings"]) else 0


def keep(report: dict[str, Any], folder: Path) -> None:
    write_json(folder / "peers.json", report)
    (folder / "peers.md").write_text(page(report), encoding="utf-8")
    bars = [
        (f"{result['profile']} texts,\n{result['connections']} connections", result["title"], result["requests_per_s"])
        for result in report["standings"]
    ]
    draw_bars(folder / "peers.svg", bars, "requests/s")


if __name__ == "__main__":
    sys.exit(main())
