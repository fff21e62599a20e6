"""Upgrades under load: another version, a version that is refused, and the end of the process, with failed requests counted.

    python -m scripts.reliability.upgrades --output docs/measurements/upgrades.json

Starts `hooper serve` with a copy of a published model and asks it over 32 connections, each of which has always a request under
way. Meanwhile version 2 is loaded, version 3 is refused because it does not answer its golden requests, and version 1 is loaded
again; then version 2 runs beside it, first with half of the requests, then as its shadow, and is promoted. Several rounds of
these, and a SIGTERM in the end. No request may fail: the count of those that did must be 0.

Of a model that writes, half of the requests are streams, and the service is started once more and gets SIGTERM without any time
for what is under way: each request must get its text, or be told that it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.manifest import MANIFEST, Manifest, describe_file, read_manifest
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import OK, StartedService, start_service
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import AnswerCounts, CountedRequest, Said, drive, request_for

ADMIN_KEY = "admin"
NUM_TEXTS = 100
REFUSED, UNAVAILABLE = 500, 503
SHADOW_OUTCOMES = ("agree", "disagree", "failed", "dropped")
SHUTTING_DOWN = "Shutting down"
END_S, POLL_S = 120.0, 0.005
# In int8 a score moves by a hundredth with the shape of its batch: an answer could not be told from a neighbour's. Batches run
# in parallel, as they do there by default.
EXACT_SCORES = {"HOOPER_PRECISION": "fp32", "HOOPER_ENGINE_STREAMS": "2"}


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """A call to the service, its status, the versions that may answer meanwhile, and the main one from then on."""

    name: str
    call: str
    status: int
    versions: frozenset[int]
    leaves: int
    body: Mapping[str, Any] | None = None
    is_compared: bool = False
    """A shadow runs from then on."""


BACK = UpgradeStep("version 1 is loaded again", "load?version=1", OK, frozenset({1, 2}), leaves=1)
STEPS = (
    UpgradeStep("version 2 is loaded", "load?version=2", OK, frozenset({1, 2}), leaves=2),
    UpgradeStep("version 3 is refused", "load?version=3", REFUSED, frozenset({2}), leaves=2),
    BACK,
    UpgradeStep("version 2 gets half", "load?version=2", OK, frozenset({1, 2}), leaves=1, body={"share": 0.5}),
    UpgradeStep("version 2 is stopped", "unload?version=2", OK, frozenset({1, 2}), leaves=1),
    UpgradeStep(
        "version 2 is the shadow", "load?version=2", OK, frozenset({1}), leaves=1, body={"shadow": True}, is_compared=True
    ),
    UpgradeStep("version 2 is promoted", "promote", OK, frozenset({1, 2}), leaves=2),
    BACK,
)


@dataclass(frozen=True, slots=True)
class UpgradeSetup:
    """What all steps have in common.

    In each step at least `num_requests` are sent, a quarter of them before anything happens and a quarter after; `expected` has
    the score of a text, which every version gives.
    """

    service: StartedService
    manifest: Manifest
    log: Path
    num_requests: int
    connections: int
    texts: Sequence[str]
    expected: dict[str, Said] = field(default_factory=dict)

    def requests(self, prefix: str = "request") -> Iterator[CountedRequest]:
        """Without an end."""
        texts = enumerate(itertools.cycle(self.texts))
        return (request_for(self.manifest, number, text, prefix) for number, text in texts)

    def learn(self) -> None:
        """What is said to each text."""
        known = [request_for(self.manifest, number, text, "known") for number, text in enumerate(self.texts)]
        asyncio.run(drive(self.service.address.port, known, 1, self.expected))


def publish_versions(source: Path, models: Path) -> None:
    """Versions 1 and 2 answer alike, since they are copies; version 3 was published with answers that it does not give."""
    for version in (1, 2, 3):
        folder = models / source.parent.name / str(version)
        shutil.copytree(source, folder)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | {"version": version}
        if version == 3:
            golden_file = folder / manifest["golden"]
            golden = json.loads(golden_file.read_text(encoding="utf-8"))
            if "labels" in golden[0]["answer"]:
                golden[0]["answer"]["labels"][0]["score"] -= 0.5
            else:
                golden[0]["answer"], golden[1]["answer"] = golden[1]["answer"], golden[0]["answer"]
            golden_file.write_text(json.dumps(golden), encoding="utf-8")
            manifest["files"][manifest["golden"]] = describe_file(golden_file).model_dump()
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


async def take_step(step: UpgradeStep, setup: UpgradeSetup) -> dict[str, Any]:
    """One step's figures."""
    begins, is_over, quarter = asyncio.Event(), asyncio.Event(), setup.num_requests // 4
    address = setup.service.address

    def coming() -> Iterator[CountedRequest]:
        last = setup.num_requests
        for request in setup.requests():
            if request.number == quarter:
                begins.set()
            if not is_over.is_set():
                last = max(setup.num_requests, request.number + quarter)
            if request.number >= last:
                return
            yield request

    async def call() -> tuple[int, bytes, float]:
        await begins.wait()
        began = time.perf_counter()
        try:
            path = f"/v1/models/{setup.manifest.name}/{step.call}"
            return *await asyncio.to_thread(address.ask, path, "POST", step.body), time.perf_counter() - began
        finally:
            is_over.set()

    counts, (status, body, seconds) = await asyncio.gather(
        drive(address.port, coming(), setup.connections, setup.expected), call()
    )
    result = figures(step.name, counts, len(counts.unanswered))
    result |= {"load_status": status, "load_said": json.loads(body).get("detail", ""), "load_s": round(seconds, 3)}
    if step.is_compared:
        compared = address.metric("hooper_shadow_compared_total")
        result["compared"] = {
            name: int(sum(count for labels, count in compared.items() if f'outcome="{name}"' in labels))
            for name in SHADOW_OUTCOMES
        }
    return result


async def end_service(setup: UpgradeSetup, name: str, may_refuse: bool = False) -> dict[str, Any]:
    """What became of the requests of a service that gets SIGTERM; 503 is a failure unless it may refuse what is under way."""
    begins = asyncio.Event()

    def coming() -> Iterator[CountedRequest]:
        for request in setup.requests("end"):
            if request.number == setup.num_requests // 4:
                begins.set()
            yield request

    async def stop() -> dict[str, Any]:
        await begins.wait()
        return await asyncio.to_thread(terminate, setup.service)

    counts, stopped = await asyncio.gather(
        drive(setup.service.address.port, coming(), setup.connections, setup.expected, until_closed=True), stop()
    )
    read, late = requests_read(read_log(setup.log))
    lost = [id for id in counts.unanswered if id in read]
    return {
        **figures(name, counts, len(lost), may_refuse),
        **stopped,
        "answered_after_the_signal": sum(id.startswith("end-") for id in late),
        "closed_unread": len(counts.unanswered) - len(lost),  # HTTP lets no server prevent that
    }


def terminate(service: StartedService) -> dict[str, Any]:
    """Send SIGTERM and wait: the exit code, and the seconds until readiness was red and until the process had ended."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)

    def is_ready() -> bool:
        try:
            return service.address.status("/health/ready") == OK
        except OSError:  # it no longer listens
            return False

    while is_ready():
        time.sleep(POLL_S)
    red_s = time.monotonic() - began
    code = service.process.wait(END_S)
    return {"exit_code": code, "ready_red_s": round(red_s, 3), "ended_s": round(time.monotonic() - began, 3)}


def read_log(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def requests_read(lines: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """From a log: ids of the requests that the service read, and those of them that ended after the signal."""
    end = next((place for place, line in enumerate(lines) if line["message"] == SHUTTING_DOWN), len(lines))
    read = {
        line["request_id"]: place
        for place, line in enumerate(lines)
        if line["logger"] == "hooper.access" and "request_id" in line
    }
    return set(read), {id for id, place in read.items() if place > end}


def figures(name: str, counts: AnswerCounts, unanswered: int, may_refuse: bool = False) -> dict[str, Any]:
    wrong, good = counts.wrong_answers + counts.second_answers, counts.statuses[OK]
    good += counts.statuses[UNAVAILABLE] if may_refuse else 0
    return {
        "step": name,
        "sent": counts.sent,
        "statuses": dict(sorted(counts.statuses.items())),
        "versions": dict(sorted(counts.versions.items())),
        "failed": counts.answered - good + wrong + unanswered,
        "unanswered": unanswered,
        "wrong_answers": wrong,
        "longest_s": round(counts.longest_s, 3),
    }


def complaints(step: UpgradeStep, result: Mapping[str, Any], version: int) -> list[str]:
    """What was not as promised; `version` answers now."""
    problems = []
    if result["failed"]:
        problems.append(f"{result['failed']} requests failed")
    if result["load_status"] != step.status:
        problems.append(f"loading was answered with {result['load_status']}: {result['load_said']}")
    if set(result["versions"]) != step.versions:
        problems.append(f"versions {sorted(result['versions'])} answered")
    if version != step.leaves:
        problems.append(f"version {version} answers afterwards")
    if step.is_compared:
        counts = result["compared"]
        if not counts["agree"] or counts["disagree"] or counts["failed"]:
            problems.append(f"the shadow, a copy, was compared so: {counts}")
    return [f"{step.name}: {complaint}" for complaint in problems]


def end_complaints(result: Mapping[str, Any]) -> list[str]:
    problems = []
    if result["failed"]:
        problems.append(f"{result['failed']} requests failed")
    if result["exit_code"]:
        problems.append(f"exit code {result['exit_code']}")
    if not result["answered_after_the_signal"]:
        problems.append("no request was under way when the signal came: nothing is shown")
    return [f"{result['step']}: {complaint}" for complaint in problems]


@contextmanager
def started(options: argparse.Namespace, manifest: Manifest, models: Path, **more: str) -> Iterator[UpgradeSetup]:
    """Version 1 is served; what is said to each text is known."""
    log, texts = models.parent / "log", list(dict.fromkeys(profile_texts("short")))[:NUM_TEXTS]
    settings = {
        "HOOPER_MODELS": str(models), "HOOPER_SERVE": f"{manifest.name}/1", "HOOPER_DEVICE": options.device,
        "HOOPER_LOG_LEVEL": "info", "HOOPER_ADMIN_KEY_HASHES": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
    }  # fmt: skip
    exact = EXACT_SCORES if manifest.decoder is None else {}  # a text is written alike, whatever is written beside it
    with log.open("wb") as stream, start_service(settings | exact | more, log=stream, key=ADMIN_KEY) as service:
        setup = UpgradeSetup(service, manifest, log, options.requests, options.connections, texts)
        setup.learn()
        yield setup


def measure(options: argparse.Namespace) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    problems: list[str] = []

    def keep(result: dict[str, Any], found: Sequence[str]) -> None:
        steps.append(result)
        problems.extend(found)
        print(json.dumps(result), file=sys.stderr, flush=True)

    manifest = read_manifest(options.model)
    with tempfile.TemporaryDirectory(prefix="hooper-upgrades-") as temporary:
        models = Path(temporary) / "models"
        publish_versions(options.model, models)
        with started(options, manifest, models) as setup:
            for step in STEPS * options.rounds:
                result = asyncio.run(take_step(step, setup))
                version = setup.service.address.get(f"/v1/models/{manifest.name}")["version"]
                keep(result, complaints(step, result, version))
            result = asyncio.run(end_service(setup, "SIGTERM"))
            keep(result, end_complaints(result))
        if manifest.decoder is not None:
            with started(options, manifest, models, HOOPER_DRAIN_S="0") as setup:
                result = asyncio.run(end_service(setup, "SIGTERM without time", may_refuse=True))
                keep(result, end_complaints(result))
    return {
        "model": "/".join(options.model.parts[-2:]), "device": options.device, "connections": options.connections,
        "requests": sum(step["sent"] for step in steps), "failed": sum(step["failed"] for step in steps),
        "steps": steps, "complaints": problems,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.upgrades", __doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("models/sentiment/2"), help="folder of a model that classifies or writes"
    )
    parser.add_argument("--device", default="cpu", help="what to compute on")
    parser.add_argument("--requests", type=int, default=1000, help="for each step")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="of all steps but the last")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
