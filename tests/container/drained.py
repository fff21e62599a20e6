"""Compares what clients saw of a service's end with what it logged: the output of load.py and then the log, on standard input.

A request that the service read is in its log, whatever became of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SHUTTING_DOWN = "Shutting down"


def verdict(load: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """What happened, in a sentence.

    Raises:
        AssertionError: a request that was read is without its answer, or the signal came when none was under way.
    """
    answered: dict[str, int] = load["answered"]
    read = {line["request_id"]: line["status"] for line in lines if line.get("logger") == "hooper.access"}
    read = {key: status for key, status in read.items() if key.startswith("load-")}
    failed = {key: status for key, status in answered.items() if status != 200}
    assert not failed, f"answered, but not with 200: {failed}"
    assert read == answered, f"read, and not answered: {sorted(read.items() - answered.items())}"
    end = next(index for index, line in enumerate(lines) if line["message"] == SHUTTING_DOWN)
    late = sum(line.get("request_id", "") in answered for line in lines[end:])
    assert late > 0, "no request was under way when the signal came: nothing is shown"
    unread = len(load["unanswered"])
    return f"{len(answered)} requests read, all answered with 200, {late} of them after the signal; {unread} closed unread"


if __name__ == "__main__":
    told = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    print(verdict(next(entry for entry in told if "answered" in entry), [entry for entry in told if "message" in entry]))
