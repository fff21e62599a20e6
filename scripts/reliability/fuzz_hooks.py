"""What `schemathesis run` is told for this service: texts that nobody sends by mistake, and which answers are failures."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

COUNTS_VARIABLE, MODELS_VARIABLE = "FUZZ_COUNTS", "FUZZ_MODELS"
DEADLINE = "x-request-timeout-ms"
NASTY_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ufeff", "\u202e\u2066", "e\u0301" * 500, "\u200d".join("👩👩👧👦"),
    "[CLS] [SEP] [MASK] [PAD] [UNK]", "##s ##", "." * 5000, "\n" * 5000, "A. " * 1500, "?!" * 500, "ﷺ" * 300, "İ" * 400,
    "𝕳" * 200, "a" * 200_000, "中" * 20_000, "\u0300" * 3000, "<script>alert(1)</script>", "' OR 1=1 --", "{{7*7}}${7*7}",
    "../../etc/passwd", "1e400", "NaN", "\x1b[2J", "\r\nX: y",
)  # fmt: skip
statuses: Counter[str] = Counter()


def replace_texts(value: Any, text: str) -> Any:
    """The same JSON with every text in it replaced, names of fields left alone."""
    if isinstance(value, dict):
        return {name: replace_texts(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [replace_texts(item, text) for item in value]
    return text if isinstance(value, str) else value


def flatmap_body(context: Any, body: Any) -> Any:
    """One body in three gets a nasty text in the place of each of its own."""
    return st.one_of(st.just(body), st.just(body), st.sampled_from(NASTY_TEXTS).map(lambda text: replace_texts(body, text)))


def flatmap_path_parameters(context: Any, path_parameters: Any) -> Any:
    """A model that is asked for by its path is mostly one that is there."""
    models = json.loads(os.environ.get(MODELS_VARIABLE, "[]"))
    if not models or not isinstance(path_parameters, dict) or "name" not in path_parameters:
        return st.just(path_parameters)
    names = st.sampled_from([path_parameters["name"], *models])
    return names.map(lambda name: path_parameters | {"name": name} | ({"version": "1"} if "version" in path_parameters else {}))


def after_call(context: Any, case: Any, response: Any) -> None:
    statuses[str(response.status_code)] += 1


def no_server_error(context: Any, response: Any, case: Any) -> None:
    """No 5xx, but for 504 where the request says how long it would wait: that is what it asked for."""
    has_deadline = DEADLINE in {name.lower() for name in case.headers or {}} or "timeout" in str(case.body)
    if response.status_code >= 500 and not (response.status_code == 504 and has_deadline):
        raise AssertionError(f"answered with {response.status_code}")


def write_counts() -> None:
    if COUNTS_VARIABLE in os.environ:
        Path(os.environ[COUNTS_VARIABLE]).write_text(json.dumps(dict(sorted(statuses.items()))), encoding="utf-8")


for hook in (flatmap_body, flatmap_path_parameters, after_call):
    schemathesis.hook(hook)
schemathesis.check(no_server_error)
atexit.register(write_counts)
