"""Locust's users of a soak: requests of mixed size for all tasks, some that are wrong, and clients who leave.

Run by `scripts.reliability.soak`, which says in the environment how much, and reads the result from a file.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, events
from locust.env import Environment

from scripts.bench.load import prepared_request
from scripts.bench.service import OK
from scripts.bench.texts import profile_texts
from scripts.reliability.soak import RUN_VARIABLE, Look, SoakRun

LEAVES_AFTER_S = 0.002
MAX_FAILED = 1000
"""After so many the service is gone, or as good as that."""
RUN = SoakRun(**json.loads(os.environ[RUN_VARIABLE]))
SHORT, LONG = profile_texts("short"), profile_texts("long")
rng = random.Random(RUN.seed)
looks: list[Look] = []


def short(user: Any) -> None:
    ask(user, "a short text", "/v1/classify", {"inputs": rng.choice(SHORT)})


def long(user: Any) -> None:
    text = " ".join(rng.choices(LONG, k=rng.randint(1, 3)))
    ask(user, "a long text", "/v1/classify", {"inputs": text, "truncation": rng.choice(("truncate", "window"))})


def several(user: Any) -> None:
    ask(user, "a list of texts", "/v1/classify", {"inputs": rng.choices(SHORT, k=rng.randint(2, 8))})


def question(user: Any) -> None:
    ask(user, "a question", "/v1/answer", {"inputs": {"question": "What did they think of it?", "context": passage()}})


def document(user: Any) -> None:
    ask(user, "a document", "/v1/summarize", {"inputs": passage(), "max_sentences": 2})


def wrong(user: Any) -> None:
    unknown = {"inputs": rng.choice(SHORT), "model": f"none-{rng.randrange(10**6)}"}
    bodies: list[tuple[dict[str, Any], int]] = [
        ({"inputs": ""}, 422), ({"inputs": 5}, 422), ({}, 422), ({"inputs": "a", "top": 3}, 422), (unknown, 404)
    ]  # fmt: skip
    ask(user, "a wrong request", "/v1/classify", *rng.choice(bodies))


def leave(user: Any) -> None:
    with socket.create_connection((RUN.host, RUN.port)) as connection:
        connection.sendall(prepared_request(RUN.host, "/v1/classify", {"inputs": rng.choice(LONG)}))
        gevent.sleep(LEAVES_AFTER_S)
    name = "a client who leaves"
    user.environment.events.request.fire(
        request_type="POST", name=name, response_time=0, response_length=0, response=None, exception=None, context={}
    )


def ask(user: Any, kind: str, path: str, body: dict[str, Any], status: int = OK) -> None:
    with user.client.post(path, json=body, name=kind, catch_response=True) as response:
        if response.status_code == status:
            response.success()
        else:
            response.failure(f"{response.status_code}, not {status}")


def passage() -> str:
    """Some sentences, and a whole review now and then."""
    return rng.choice(LONG) if rng.random() < 0.1 else " ".join(rng.choices(SHORT, k=2))


class MixedUser(FastHttpUser):  # type: ignore[misc]  # its package is not read by mypy
    """A caller with always a request under way; the weights are of a hundred requests."""

    tasks: ClassVar = {short: 76, long: 4, several: 6, question: 5, document: 4, wrong: 3, leave: 2}


def watch(environment: Environment, **_: Any) -> None:
    """Look at the service at equal distances, and stop after the last request."""

    def on_request(**_: Any) -> None:
        total = environment.stats.total
        if total.num_requests >= (len(looks) + 1) * RUN.requests_per_look:
            looks.append(Look.of(RUN.pid, RUN.sent_before + total.num_requests))
            print(f"{looks[-1].requests:>12,} requests  {looks[-1]}  {total.num_failures} failed", file=sys.stderr, flush=True)
        if total.num_requests >= RUN.requests or total.num_failures > MAX_FAILED:
            environment.runner.quit()

    environment.events.request.add_listener(on_request)


def write_result(environment: Environment, **_: Any) -> None:
    stats = environment.stats
    result = {
        "sent": stats.total.num_requests,
        "failed": stats.total.num_failures,
        "kinds": {entry.name: entry.num_requests for entry in stats.entries.values()},
        "failures": [f"{error.name}: {error.error} ({error.occurrences} times)" for error in stats.errors.values()],
        "looks": [asdict(look) for look in looks],
    }
    Path(RUN.result_file).write_text(json.dumps(result), encoding="utf-8")


events.init.add_listener(watch)
events.quitting.add_listener(write_result)
