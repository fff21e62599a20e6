"""Every way in which an engine can fail, under load, with every request's answers counted.

    python -m scripts.reliability.faults --output docs/measurements/faults.json

Starts the service once for each fault, with an engine that fails so, and sends requests over 64 connections. A request must get
exactly one answer, its own: the count of those that did not is the result, and must be 0. Of a model that writes, its decoder
fails in ways of its own, half of the requests are streams, and every row of its cache must be free in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.core.manifest import Manifest, read_manifest
from app.tasks.tokenizer import Tokenizer
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import OK, Address, start_service, wait_until_ready
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import AnswerCounts, CountedRequest, Said, drive, request_for, used_rows
from scripts.reliability.engines import CONTINUER_FAULTS, FAULTS, WRITER_FAULTS, InjectedFault

ADMIN_KEY = "admin"
POISONS = "poison", "not"
"""A token of such a word makes a row guilty: of the first that the model knows."""
NUM_TEXTS, NUM_WORDS = 100, 4
SETTLE_S, PAUSE_S = 30.0, 0.1
MAX_MORE_REQUESTS = 1000


@dataclass(frozen=True, slots=True)
class FaultSetup:
    """What all faults have in common: the folder `models/name/version`, the load, and the watchdog's limit.

    `texts` do not hold the word `poison`; `expected` has the score of each without a fault.
    """

    folder: Path
    manifest: Manifest
    device: str
    num_requests: int
    connections: int
    run_s: float
    poison: str
    poison_token: int
    texts: Sequence[str]
    faults: Sequence[InjectedFault] = FAULTS
    expected: dict[str, Said] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, device: str, num_requests: int, connections: int, run_s: float,
           poisons: Sequence[str] = POISONS) -> FaultSetup:  # fmt: skip
        manifest = read_manifest(folder)
        tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
        forms = [(word, tokenizer.token_id(form)) for word in poisons for form in (word, f"▁{word}")]
        poison, token = next((word, token) for word, token in forms if token is not None)
        short = (" ".join(text.split()[:NUM_WORDS]) for text in profile_texts("short"))
        texts = list(dict.fromkeys(text for text in short if poison not in text.lower()))[:NUM_TEXTS]
        faults: Sequence[InjectedFault] = FAULTS
        if manifest.decoder is not None:
            faults = WRITER_FAULTS if manifest.decoder.has_encoder else CONTINUER_FAULTS
        return cls(folder, manifest, device, num_requests, connections, run_s, poison, token, texts, faults)

    def requests(self, fault: InjectedFault) -> list[CountedRequest]:
        rng = random.Random(fault.name)
        changed = [fault.change(self.request(number), rng) for number in range(self.num_requests)]
        return [replace(request, text=f"{request.text} {self.poison}") if request.is_guilty else request for request in changed]

    def request(self, number: int) -> CountedRequest:
        return request_for(self.manifest, number, self.texts[number % len(self.texts)])


def inject(fault: InjectedFault, setup: FaultSetup) -> dict[str, Any]:
    """One fault's figures."""
    with tempfile.TemporaryDirectory(prefix="hooper-faults-") as temporary:
        model, models = setup.folder.parent.name, Path(temporary) / "models"
        shutil.copytree(setup.folder, models / model / setup.folder.name)
        settings = {
            "HOOPER_MODELS": str(models),
            "HOOPER_DEVICE": setup.device,
            "HOOPER_ENGINE_THREADS": "1",
            "HOOPER_ENGINE_RUN_S": str(setup.run_s),
            "HOOPER_ADMIN_KEY_HASHES": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
        }
        words = [sys.executable, "-m", "scripts.reliability.faulty_service", fault.name, str(setup.poison_token)]
        with (
            Path(temporary, "log").open("wb") as log,
            start_service(settings, lambda _: words, log=log, key=ADMIN_KEY) as service,
        ):
            loses_files = lose_files(service.address, models, model) if fault.loses_files else dict
            requests = setup.requests(fault)
            counts = asyncio.run(drive(service.address.port, requests, setup.connections, setup.expected))
            if fault.ends_ready:
                wait_until_ready(service.address, seconds=SETTLE_S)
                used_rows(service.address, SETTLE_S)
            if not fault.ends_live:
                ask_until_dead(service.address, setup, counts)
            return figures(fault, counts, service.address) | loses_files()


def ask_until_dead(address: Address, setup: FaultSetup, counts: AnswerCounts) -> None:
    """One request after the other until liveness fails: while an engine is being replaced, refusals use many up in no time."""
    for number in range(MAX_MORE_REQUESTS):
        if address.status("/health/live") != OK:
            return
        request = setup.request(setup.num_requests + number)
        asyncio.run(drive(address.port, [request], 1, setup.expected, counts))
        time.sleep(PAUSE_S)


def lose_files(address: Address, models: Path, model: str) -> Callable[[], dict[str, int]]:
    """Take a model's files away while it answers, and ask to have it loaded again; the result waits for the status of that."""
    statuses: list[int] = []

    def lose() -> None:
        shutil.rmtree(models / model)
        statuses.append(address.status(f"/v1/models/{model}/load", "POST"))

    thread = threading.Thread(target=lose)
    thread.start()

    def result() -> dict[str, int]:
        thread.join()
        return {"status_of_loading_again": statuses[0]}

    return result


def figures(fault: InjectedFault, counts: AnswerCounts, address: Address) -> dict[str, Any]:
    return {
        "fault": fault.name,
        "sent": counts.sent,
        "left": counts.left,
        "answered": counts.answered,
        "statuses": dict(sorted(counts.statuses.items())),
        "errors": dict(sorted(counts.errors.items())),
        "without_exactly_one_answer": counts.without_exactly_one_answer,
        "unanswered": len(counts.unanswered),
        "second_answers": counts.second_answers,
        "wrong_answers": counts.wrong_answers,
        "innocents_failed": counts.innocents_failed,
        "longest_s": round(counts.longest_s, 2),
        "ready_afterwards": address.status("/health/ready") == OK,
        "live_afterwards": address.status("/health/live") == OK,
        "engine_failures": int(address.metric_sum("hooper_engine_failures_total")),
        "engines_lost": int(address.metric_sum("hooper_engines_lost_total")),
        "rows_dropped": {labels[1:-1]: int(value) for labels, value in address.metric("hooper_dropped_rows_total").items()},
        "cache_rows_used": used_rows(address, 0.0),
        "batch_token_budget": int(address.metric_sum("hooper_batch_token_budget")),
    }


def complaints(fault: InjectedFault, figures: dict[str, Any]) -> list[str]:
    """What was not as promised."""
    problems = []
    if figures["without_exactly_one_answer"]:
        problems.append(f"{figures['without_exactly_one_answer']} requests without exactly one answer")
    if figures["sent"] != figures["answered"] + figures["left"]:
        problems.append(f"{figures['sent']} sent, but {figures['answered']} answered and {figures['left']} left")
    if unexpected := set(figures["statuses"]) - fault.statuses:
        problems.append(f"statuses {sorted(unexpected)}")
    if fault.spares_innocents and figures["innocents_failed"]:
        problems.append(f"{figures['innocents_failed']} innocent requests failed")
    if fault.ends_ready and figures["cache_rows_used"]:
        problems.append(f"{figures['cache_rows_used']} rows of the cache are not free again")
    if (figures["ready_afterwards"], figures["live_afterwards"]) != (fault.ends_ready, fault.ends_live):
        problems.append(f"ready {figures['ready_afterwards']}, live {figures['live_afterwards']}")
    return [f"{fault.name}: {complaint}" for complaint in problems]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All faults in turn."""
    setup = FaultSetup.of(options.model, options.device, options.requests, options.connections, options.run_s, options.poison)
    faults, problems = [], []
    for fault in setup.faults:
        faults.append(inject(fault, setup))
        problems += complaints(fault, faults[-1])
        print(json.dumps(faults[-1]), file=sys.stderr, flush=True)
    return {
        "model": "/".join(setup.folder.parts[-2:]), "connections": setup.connections, "engine_run_s": setup.run_s,
        "requests": sum(result["sent"] for result in faults),
        "without_exactly_one_answer": sum(result["without_exactly_one_answer"] for result in faults),
        "faults": faults, "complaints": problems,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.faults", __doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("models/sentiment/2"), help="folder of a model that classifies or writes"
    )
    parser.add_argument("--device", default="cpu", help="what to compute on")
    parser.add_argument("--requests", type=int, default=2000, help="for each fault")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--poison", nargs="+", default=POISONS, metavar="WORD", help="makes a row guilty (poison, or not)")
    parser.add_argument("--run-s", type=float, default=5.0, help="seconds that one batch may take in the engine")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
