"""Locust's users of a soak: requests of mixed size for all tasks, some that are wrong, and clients who leave.

Run by `scripts.reliability.soak`, which says in the environment how much, and reads the result from a file.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, events
from locust.env import Environment

from scripts.bench.load import prepared_request
from scripts.bench.service import OK
from scripts.bench.texts import profile_texts
from scripts.reliability.callers import native_path
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
    count(user, "a client who leaves")


def written(user: Any) -> None:
    ask(user, "a written text", *to_write())


def with_beams(user: Any) -> None:
    ask(user, "a text of two beams", *to_write(num_beams=2))


def streamed(user: Any) -> None:
    path, body = to_write(stream=True)
    with user.client.post(path, json=body, name="a stream", catch_response=True) as response:
        is_whole = "\nevent: done\n" in f"\n{response.text}" and response.text.endswith("\n\n")
        response.success() if is_whole else response.failure(f"{response.status_code}, and no end")


def leave_stream(user: Any) -> None:
    with socket.create_connection((RUN.host, RUN.port)) as connection:
        connection.sendall(prepared_request(RUN.host, *to_write(stream=True)))
        connection.recv(rng.choice((1, 1000)))
    count(user, "a client who leaves a stream")


def wrong_to_write(user: Any) -> None:
    path, body = to_write()
    unlike: dict[str, Any] = rng.choice([{"max_new_tokens": 0}, {"num_beams": 0}, {"top_p": 2}, {"inputs": ""}, {"stop": 5}])
    ask(user, "a wrong request to write", path, body | unlike, 422)


def to_write(**fields: Any) -> tuple[str, dict[str, Any]]:
    """Path and body."""
    model, task = rng.choice(list(RUN.writers.items()))
    text = rng.choice(SHORT) if rng.random() < 0.9 else " ".join(rng.choices(SHORT, k=4))
    return native_path(task), {"model": model, "inputs": text, "max_new_tokens": rng.randint(1, 20), "num_beams": 1, **fields}


def count(user: Any, name: str) -> None:
    """A request that nobody waits for."""
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


KINDS: tuple[tuple[int, Callable[[Any], None], str], ...] = (
    (76, short, "/v1/classify"), (4, long, "/v1/classify"), (6, several, "/v1/classify"),
    (3, wrong, "/v1/classify"), (2, leave, "/v1/classify"), (5, question, "/v1/answer"),
    (4, document, "/v1/summarize"), (20, written, ""), (20, streamed, ""), (4, with_beams, ""), (4, leave_stream, ""),
    (2, wrong_to_write, ""),
)  # fmt: skip
"""How often, what, and where a model that reads must answer; empty: one that writes must be there."""
PATHS = {native_path(task) for task in RUN.models.values()}


class MixedUser(FastHttpUser):  # type: ignore[misc]  # its package is not read by mypy
    """A caller with always a request under way."""

    tasks: ClassVar = {
        kind: weight for weight, kind, task in KINDS if task in RUN.models.values() or (not task and RUN.writers)
    }


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
