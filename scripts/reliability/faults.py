"""Every way in which an engine can fail, under load, with every request's answers counted.

    python -m scripts.reliability.faults --output docs/measurements/faults.json

Starts the service once for each fault, with an engine that fails so, and sends requests over 64 connections. A request must get
exactly one answer, its own: the count of those that did not is the result, and must be 0.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import OK, Request, Tally, drive
from scripts.reliability.catalogue import FAULTS, Fault
from scripts.reliability.engines import FaultyEngines
from scripts.reliability.service import ADMIN_KEY, Running, running, wait_until_ready

POISONS = ("poison", "not")
NUM_TEXTS, NUM_WORDS = 100, 4
SETTLE_S = 30.0
MOST_MORE, PAUSE_S = 1000, 0.1


@dataclass(frozen=True, slots=True)
class Bench:
    """What all faults have in common."""

    folder: Path
    """Of the model, `models/name/version`."""
    device: str
    num_requests: int
    connections: int
    run_s: float
    """The watchdog's limit."""
    poison: str
    texts: Sequence[str]
    expected: dict[str, float]
    """From a text to its score without a fault."""

    @classmethod
    def of(cls, folder: Path, device: str, num_requests: int, connections: int, run_s: float) -> Bench:
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        poison = next(word for word in POISONS if word in vocabulary)
        short = (" ".join(text.split()[:NUM_WORDS]) for text in profile_texts("short"))
        texts = list(dict.fromkeys(text for text in short if poison not in text.lower()))[:NUM_TEXTS]
        return cls(folder, device, num_requests, connections, run_s, poison, texts, {})

    @property
    def poison_token(self) -> int:
        token: int = json.loads((self.folder / "tokenizer.json").read_text())["model"]["vocab"][self.poison]
        return token

    def requests(self, fault: Fault) -> list[Request]:
        generator = random.Random(fault.name)
        plain = [Request(number, self.texts[number % len(self.texts)]) for number in range(self.num_requests)]
        made = [fault.change(one, generator) for one in plain]
        return [replace(one, text=f"{one.text} {self.poison}") if one.is_guilty else one for one in made]


def inject(fault: Fault, bench: Bench) -> dict[str, Any]:
    """One fault's figures."""
    with tempfile.TemporaryDirectory(prefix="hooper-faults-") as temporary:
        name = bench.folder.parent.name
        models = Path(temporary) / "models"
        shutil.copytree(bench.folder, models / name / bench.folder.name)
        settings = {
            "models": models,
            "device": bench.device,
            "engine_threads": 1,
            "engine_run_s": bench.run_s,
            "admin_key_hashes": (hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),),
        }
        with running(settings, FaultyEngines(fault.behaviour, bench.poison_token)) as service:
            meddler = Meddler(service, models, name)
            if fault.loses_files:
                meddler.start()
            tally = asyncio.run(drive(service.port, bench.requests(fault), bench.connections, bench.expected))
            if fault.ends_ready:
                wait_until_ready(service, SETTLE_S)
            if not fault.ends_live:
                ask_until_dead(service, bench, tally)
            return report(fault, tally, service) | meddler.report()


def ask_until_dead(service: Running, bench: Bench, tally: Tally) -> None:
    """One request after the other until liveness fails: while an engine is being replaced, refusals use many up in no time."""
    pause = threading.Event()
    for number in range(MOST_MORE):
        if service.status("/health/live") != OK:
            return
        more = Request(bench.num_requests + number, bench.texts[0])
        asyncio.run(drive(service.port, [more], 1, bench.expected, tally))
        pause.wait(PAUSE_S)


class Meddler:
    """Takes a model's files away while it answers, and asks to have it loaded again."""

    def __init__(self, service: Running, models: Path, name: str) -> None:
        self._service, self._models, self._name = service, models, name
        self._thread = threading.Thread(target=self._meddle)
        self._status = 0

    def start(self) -> None:
        self._thread.start()

    def report(self) -> dict[str, int]:
        if self._thread.ident is None:
            return {}
        self._thread.join()
        return {"status_of_loading_again": self._status}

    def _meddle(self) -> None:
        shutil.rmtree(self._models / self._name)
        self._status = self._service.status(f"/v1/models/{self._name}/load", "POST")


def report(fault: Fault, tally: Tally, service: Running) -> dict[str, Any]:
    ready, live = (service.status(path) == 200 for path in ("/health/ready", "/health/live"))
    return {
        "fault": fault.name,
        "sent": tally.sent,
        "left": tally.left,
        "answered": tally.answered,
        "statuses": dict(sorted(tally.statuses.items())),
        "errors": dict(sorted(tally.errors.items())),
        "without_exactly_one_answer": tally.without_exactly_one_answer,
        "unanswered": tally.unanswered,
        "second_answers": tally.second_answers,
        "wrong_answers": tally.wrong_answers,
        "innocents_failed": tally.innocents_failed,
        "longest_s": round(tally.longest_s, 2),
        "ready_afterwards": ready,
        "live_afterwards": live,
        "engine_failures": service.total("hooper_engine_failures_total"),
        "engines_lost": service.total("hooper_engines_lost_total"),
        "rows_dropped": {key[1:-1]: int(value) for key, value in service.sample("hooper_dropped_rows_total").items()},
        "batch_token_budget": service.total("hooper_batch_token_budget"),
    }


def complaints(fault: Fault, figures: dict[str, Any]) -> list[str]:
    """What was not as promised."""
    found = []
    if figures["without_exactly_one_answer"]:
        found.append(f"{figures['without_exactly_one_answer']} requests without exactly one answer")
    if figures["sent"] != figures["answered"] + figures["left"]:
        found.append(f"{figures['sent']} sent, but {figures['answered']} answered and {figures['left']} left")
    if unexpected := set(figures["statuses"]) - fault.statuses:
        found.append(f"statuses {sorted(unexpected)}")
    if fault.spares_innocents and figures["innocents_failed"]:
        found.append(f"{figures['innocents_failed']} innocent requests failed")
    if (figures["ready_afterwards"], figures["live_afterwards"]) != (fault.ends_ready, fault.ends_live):
        found.append(f"ready {figures['ready_afterwards']}, live {figures['live_afterwards']}")
    return [f"{fault.name}: {one}" for one in found]


def measure(bench: Bench, output: Path | None) -> list[str]:
    """All faults in turn, written to `output`; what was not as promised."""
    results, found = [], []
    for fault in FAULTS:
        figures = inject(fault, bench)
        results.append(figures)
        found += complaints(fault, figures)
        print(json.dumps(figures), flush=True)
        if output is not None:
            told = {
                "model": "/".join(bench.folder.parts[-2:]), "connections": bench.connections, "engine_run_s": bench.run_s,
                "requests": sum(one["sent"] for one in results),
                "without_exactly_one_answer": sum(one["without_exactly_one_answer"] for one in results),
                "faults": results,
            }  # fmt: skip
            output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/sentiment/1"), help="a classification model's folder")
    parser.add_argument("--device", default="cpu", help="what to compute on")
    parser.add_argument("--requests", type=int, default=2000, help="for each fault")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--run-s", type=float, default=5.0, help="seconds that one batch may take in the engine")
    parser.add_argument("--output", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    try:
        bench = Bench.of(options.model, options.device, options.requests, options.connections, options.run_s)
        found = measure(bench, options.output)
    except (HooperError, OSError) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    for one in found:
        print(f"faults: {one}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # engines that hang for good are among the faults
