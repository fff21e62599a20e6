"""The verdict over a service's end can fall both ways."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container.drained import verdict

END = {"logger": "uvicorn.error", "message": "Shutting down"}


def line(request_id: str, status: int = 200) -> dict[str, Any]:
    return {"logger": "hooper.access", "message": "POST /v1/classify", "request_id": request_id, "status": status}


def test_what_was_read_was_answered() -> None:
    load = {"answered": {"load-0": 200, "load-1": 200}, "unanswered": ["load-2"]}
    said = verdict(load, [line("probe"), line("load-0"), END, line("load-1")])
    assert said == "2 requests read, all answered with 200, 1 of them after the signal; 1 closed unread"


@pytest.mark.parametrize(
    ("answered", "unanswered", "lines", "reason"),
    [
        ({"load-0": 200}, ["load-1"], [END, line("load-0"), line("load-1", 499)], "read, and not answered"),
        ({"load-0": 200}, ["load-1"], [END, line("load-0"), line("load-1")], "read, and not answered"),
        ({"load-0": 200, "load-1": 503}, [], [END, line("load-0"), line("load-1", 503)], "not with 200"),
        ({"load-0": 200}, [], [line("load-0"), END], "nothing is shown"),
    ],
    ids=["cut off", "logged as answered", "refused", "too late"],
)
def test_a_request_that_was_read_and_not_answered_is_lost(
    answered: dict[str, int], unanswered: list[str], lines: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        verdict({"answered": answered, "unanswered": unanswered}, lines)
