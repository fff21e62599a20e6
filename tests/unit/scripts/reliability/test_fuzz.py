"""The fuzzer's own judgement: what counts as a failure, what is drawn, and that it would see one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import strategies as st

from scripts.bench.service import Address
from scripts.reliability import fuzz
from scripts.reliability.draw import ask_with
from scripts.reliability.fuzz import Service
from scripts.reliability.fuzz_sockets import KINDS, PATHS
from scripts.reliability.fuzz_texts import JSON, Asked, _deep, _encoded
from scripts.reliability.tally import MAX_CHARACTERS, MAX_TOLD, Tally, fault_of


@pytest.mark.parametrize(
    ("status", "has_deadline", "is_fault"),
    [(200, False, False), (422, False, False), (429, False, False), (500, False, True), (503, True, True), (504, False, True),
     (504, True, False)],
)  # fmt: skip
def test_a_5xx_is_a_fault_but_for_a_deadline_that_was_asked_for(status: int, has_deadline: bool, is_fault: bool) -> None:
    assert (fault_of(status, has_deadline) is not None) is is_fault


def test_every_case_is_counted_and_failures_are_told_in_moderation() -> None:
    tally = Tally()
    tally.answered("a", 200, "good")
    tally.answered("b", None, "closed")
    tally.hung("b", 60, "slow")
    tally.broke("c", "broke off", "x")
    for _ in range(50):
        tally.answered("a", 500, "x" * 10_000)
    told = tally.told()
    assert (told["cases"], told["failed"]) == (54, 52)
    assert told["statuses"] == {"200": 1, "500": 50, "broken": 1, "closed": 1, "hung": 1}
    assert told["kinds"] == {"a": 51, "b": 2, "c": 1}
    assert len(told["failures"]) == MAX_TOLD
    assert max(map(len, told["failures"])) == MAX_CHARACTERS
    assert told["failures"][0] == "b had not ended after 60 s: 'slow'"


def test_rounds_are_added_up() -> None:
    whole, part = Tally(), Tally()
    part.answered("a", 200, "good")
    part.hung("b", 1, "bad")
    for _ in range(MAX_TOLD + 1):
        whole.add(part)
    assert (whole.num_cases, whole.num_failures, len(whole.failures)) == (42, 21, MAX_TOLD)
    assert whole.statuses == {"200": 21, "hung": 21}
    assert whole.kinds == {"a": 21, "b": 21}


@pytest.mark.parametrize(("strategy", "expected"), [(st.integers(), 450), (st.just(1), 1), (st.nothing(), 0)], ids=str)
def test_so_many_examples_are_asked_with_or_as_many_as_there_are(strategy: st.SearchStrategy[int], expected: int) -> None:
    asked: list[int] = []
    assert ask_with(strategy, 450, random.Random(0), asked.append) == expected
    assert len(asked) == expected


def test_the_same_seed_draws_the_same() -> None:
    def drawn(number: int) -> list[str]:
        found: list[str] = []
        ask_with(st.text(), 300, random.Random(number), found.append)
        return found

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_client_sends_something_and_says_what_it_is(kind: object) -> None:
    for number in range(50):
        dice = random.Random(number)
        act = kind(dice, dice.choice(PATHS))  # type: ignore[operator]
        assert act.kind
        assert b"".join(act.pieces)


def test_lone_surrogates_travel_escaped_or_as_wrong_utf_8() -> None:
    assert _encoded("x", "/", {"inputs": "\ud800"}, True).body == b'{"inputs": "\\ud800"}'
    assert _encoded("x", "/", {"inputs": "\ud800"}, False).body == b'{"inputs": "\xed\xa0\x80"}'
    assert _deep("/", 3, "[") == Asked("nested JSON", "/", b'{"inputs": [[[', {"Content-Type": JSON})


def test_log_lines_that_no_request_may_cause_are_found(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+", encoding="utf-8") as log:
        log.write('{"message": "loaded"}\n{"message": "unexpected error"}\nTraceback (most recent call last):\n')
        assert len(Service(Address("127.0.0.1", 1), 1, log).marks()) == 2


def test_the_shares_of_the_parts_are_the_whole() -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (part of the extra `dev`)")
    assert sum(share for _, _, share in fuzz.parts(50_000)) == 50_000


def test_what_stops_the_start_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--cases", "10", "--models", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("fuzz: the service ended with exit code 2")


@pytest.mark.parametrize(("num_failed", "code"), [(0, 0), (1, 1)])
def test_a_failure_is_in_the_exit_code_and_the_counts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], num_failed: int, code: int
) -> None:
    monkeypatch.setattr(fuzz, "fuzz", lambda *_: {"failed": num_failed})
    assert fuzz.main(["--output", str(tmp_path / "counts.json")]) == code
    assert json.loads((tmp_path / "counts.json").read_text()) == json.loads(capsys.readouterr().out) == {"failed": num_failed}
