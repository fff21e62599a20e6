"""The command that upgrades under load: a short run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.core.artefact import open_artefact
from app.core.errors import InvalidArtefact
from app.core.manifest import read_manifest
from app.serving.repository import Repository
from scripts.reliability.callers import AnswerCounts, CountedRequest, drive
from scripts.reliability.upgrades import STEPS, complaints, end_complaints, figures, publish_versions, requests_read
from tests.support.live_service import ROOT
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import publish_tiny

GOOD = {"model": {"name": "tiny", "version": 1}, "results": [{"labels": [{"label": "good", "score": 0.75}]}]}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("publish", "ends"),
    [(publish_tiny, ["SIGTERM"]), (partial(publish_tiny_decoder, max_tokens=128), ["SIGTERM", "SIGTERM without time"])],
    ids=["a classifier", "a writer"],
)
def test_no_request_fails_while_versions_change_and_the_process_ends(
    tmp_path: Path, publish: Callable[[Path], Path], ends: list[str]
) -> None:
    folder, output = publish(tmp_path / "published"), tmp_path / "upgrades.json"
    command = [sys.executable, "-m", "scripts.reliability.upgrades", "--model", folder, "--requests", "400", "--rounds", "1"]
    ran = subprocess.run([*command, "--output", output], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(output.read_text())
    assert [entry["step"] for entry in told["steps"]] == [*(entry.name for entry in STEPS), *ends]
    assert told["failed"] == 0
    assert all(entry["sent"] >= 400 for entry in told["steps"][: len(STEPS)])
    assert told["steps"][1]["load_said"].startswith(f"{folder.parent.name}/3: golden request 0 is answered differently")
    (shadowed,) = [entry for entry in told["steps"] if "compared" in entry]
    assert shadowed["compared"]["agree"] > 0


def test_the_versions_are_sound_and_one_was_published_with_other_answers(tmp_path: Path) -> None:
    publish_versions(publish_tiny(tmp_path / "published"), tmp_path / "models")
    assert Repository(tmp_path / "models").versions("tiny") == [1, 2, 3]
    first, second, third = [open_artefact(tmp_path / "models" / "tiny" / version) for version in "123"]
    assert first.manifest.files == second.manifest.files
    changed = {name for name, entry in third.manifest.files.items() if entry != first.manifest.files[name]}
    assert changed == {"golden.json"}
    (third.folder / "golden.json").write_text("[]")
    with pytest.raises(InvalidArtefact):
        open_artefact(third.folder)
    assert read_manifest(second.folder).version == 2


STEP = STEPS[0]
AS_IT_SHOULD_BE = {"failed": 0, "load_status": 200, "load_said": "", "versions": {1: 9, 2: 9}}


@pytest.mark.parametrize(
    ("change", "version", "told"),
    [
        ({}, 2, []),
        ({"failed": 2}, 2, ["2 requests failed"]),
        ({"load_status": 500, "load_said": "no"}, 2, ["loading was answered with 500: no"]),
        ({"versions": {2: 9}}, 2, ["versions [2] answered"]),
        ({}, 1, ["version 1 answers afterwards"]),
    ],
)
def test_what_was_not_as_promised_is_told(change: dict[str, Any], version: int, told: list[str]) -> None:
    assert complaints(STEP, AS_IT_SHOULD_BE | change, version) == [f"{STEP.name}: {entry}" for entry in told]


@pytest.mark.parametrize(
    ("counts", "is_told"),
    [
        ({}, False),
        ({"dropped": 9}, False),
        ({"agree": 0}, True),
        ({"disagree": 1}, True),
        ({"failed": 1}, True),
    ],
)
def test_a_shadow_that_was_not_compared_or_did_not_agree_is_told(counts: dict[str, int], is_told: bool) -> None:
    (step,) = [entry for entry in STEPS if entry.is_compared]
    compared = {"agree": 5, "disagree": 0, "failed": 0, "dropped": 0} | counts
    found = complaints(step, AS_IT_SHOULD_BE | {"versions": {1: 9}, "compared": compared}, step.leaves)
    assert found == ([f"{step.name}: the shadow, a copy, was compared so: {compared}"] if is_told else [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"failed": 1}, "1 requests failed"),
        ({"exit_code": -15}, "exit code -15"),
        ({"answered_after_the_signal": 0}, "nothing is shown"),
    ],
)
def test_an_end_that_was_not_as_promised_is_told(change: dict[str, int], told: str | None) -> None:
    found = end_complaints({"step": "SIGTERM", "failed": 0, "exit_code": 0, "answered_after_the_signal": 3} | change)
    assert (told in found[0]) if told else (found == [])


def test_at_the_end_503_is_a_failure_unless_there_was_no_time() -> None:
    counts = AnswerCounts(sent=3, answered=3)
    counts.statuses.update({200: 2, 503: 1})
    assert figures("SIGTERM", counts, 0)["failed"] == 1
    assert figures("SIGTERM without time", counts, 0, may_refuse=True)["failed"] == 0
    assert figures("SIGTERM without time", counts, 1, may_refuse=True)["failed"] == 1


def test_a_log_tells_what_was_read_and_what_ended_after_the_signal() -> None:
    def line(name: str, status: int = 200) -> dict[str, Any]:
        return {"logger": "hooper.access", "message": "POST /v1/classify", "request_id": name, "status": status}

    end = {"logger": "uvicorn.error", "message": "Shutting down"}
    assert requests_read([line("a"), end, line("b", 499)]) == ({"a", "b"}, {"b"})
    assert requests_read([line("a")]) == ({"a"}, set())


# --- callers until the end


async def until_closed(answer: Callable[[int], bytes], last: int) -> AnswerCounts:
    """What one caller sees of a server that answers so, and stops listening with this request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            await reader.readexactly(int(head.partition("Content-Length: ")[2].partition("\r")[0]))
            number = int(head.partition("X-Request-Id: request-")[2].partition("\r")[0])
            if number == last:
                server.close()
            said = answer(number)
            writer.write(said)
            if not said or b"Connection: close" in said:
                break
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    requests = (CountedRequest(number, "a") for number in count())
    return await drive(port, requests, 1, {"a": 0.75}, until_closed=True)


def reply(number: int, more: str = "") -> bytes:
    content = json.dumps(GOOD).encode()
    head = f"HTTP/1.1 200 X\r\nX-Request-Id: request-{number}\r\n{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def test_callers_go_on_until_nobody_listens_over_new_connections_where_theirs_is_ended() -> None:
    counts = await until_closed(lambda number: reply(number, "Connection: close\r\n" if number in (1, 3) else ""), 3)
    assert (counts.sent, counts.answered, counts.wrong_answers, counts.unanswered) == (4, 4, 0, [])


async def test_a_request_whose_connection_is_closed_without_an_answer_is_named() -> None:
    counts = await until_closed(lambda number: b"" if number == 2 else reply(number), 2)
    assert (counts.sent, counts.answered, counts.unanswered) == (3, 2, ["request-2"])
