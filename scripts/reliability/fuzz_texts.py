"""Texts, lists, options and encodings that nobody sends by mistake, to every route that predicts. Drawn by hypothesis."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from scripts.bench.service import Address
from scripts.reliability.draw import ask_with
from scripts.reliability.tally import Tally

LONG_CHARACTERS = 200_000
JSON = "application/json"

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)  # lone surrogates and NUL among them
nasty_text = st.sampled_from(
    [
        "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ufeff", "\u202e\u2066", "e\u0301" * 500, "\u200d".join("👩👩👧👦"),
        "[CLS] [SEP] [MASK] [PAD] [UNK]", "##s ##", "." * 5000, "\n" * 5000, "A. " * 1500, "?!" * 500, "ﷺ" * 300, "İ" * 400,
        "𝕳" * 200, "a" * LONG_CHARACTERS, "中" * 20_000, "\u0300" * 3000, "<script>alert(1)</script>", "' OR 1=1 --",
        "{{7*7}}${7*7}", "../../etc/passwd", "1e400", "NaN", "\x1b[2J", "\r\nX: y",
    ]
)  # fmt: skip
texts = any_text | nasty_text
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=8,
)
pairs = st.fixed_dictionaries({"text": texts}, optional={"text_pair": texts})
questions = st.fixed_dictionaries({"question": texts, "context": texts})
items = texts | pairs | questions | values
many = st.builds(
    lambda item, count: [item] * count, texts.filter(lambda text: len(text) < 100), st.sampled_from([1, 256, 257, 5000])
)
options = st.dictionaries(
    st.sampled_from(
        [
            "model", "top_k", "activation", "truncation", "max_answer_tokens", "allow_no_answer", "stride", "method",
            "max_sentences", "min_sentences", "target", "budget", "raw_scores", "truncate", "stream",
        ]
    ),
    st.sampled_from([0, -1, 1, 2**63, "error", "window", "truncate", "sentiment", "extractive", "none", True, 1.5]) | values,
    max_size=3,
)  # fmt: skip
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "text_pair", "question", "context"]) | texts,
        "shape": st.lists(st.integers(-1, 3) | st.sampled_from([2**62]), max_size=3),
        "datatype": st.sampled_from(["BYTES", "FP32"]) | any_text,
    },
    optional={"data": st.lists(items, max_size=4) | values, "parameters": st.dictionaries(any_text, values, max_size=2)},
)
corrections = st.fixed_dictionaries(
    {"text": any_text},
    optional={"label": any_text, "labels": st.lists(any_text, max_size=3), "sentences": st.lists(any_text, max_size=3)},
) | st.fixed_dictionaries({"question": any_text, "context": any_text, "answer": any_text}, optional={"start": st.integers()})
notes = st.fixed_dictionaries(
    {"allow_new_labels": st.booleans()}, optional={"source": any_text, "comment": any_text, "request_id": any_text}
)
depths = st.sampled_from([10, 63, 64, 65, 1000, 100_000])


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    kind: str
    path: str
    body: bytes
    headers: Mapping[str, str]


def requests_of(models: Mapping[str, str]) -> SearchStrategy[Asked]:
    """
    Args:
        models: their names, each to its task.
    """
    native = ["/v1/classify", "/v1/answer", "/v1/summarize", "/predict"]
    hub = [f"/models/{name}" for name in models]
    infer = [f"/v2/models/{name}/infer" for name in models]
    body = st.builds(lambda inputs, more: {"inputs": inputs, **more}, items | st.lists(items, max_size=5) | many, options)
    feedback_body = st.builds(lambda inputs, more: {"inputs": inputs, **more}, corrections | st.lists(corrections), notes)
    hub_body = st.builds(lambda inputs, more: {"inputs": inputs, "parameters": more}, items, options)
    infer_body = st.fixed_dictionaries({"inputs": st.lists(tensors, max_size=3)}, optional={"parameters": options, "id": texts})
    paths = st.sampled_from([*native, *hub, *infer])
    return st.one_of(
        st.builds(_encoded, st.just("native"), st.sampled_from(native), body, st.booleans()),
        st.builds(_encoded, st.just("explanation"), st.just("/v1/explain"), st.builds(dict, inputs=any_text), st.booleans()),
        st.builds(_encoded, st.just("feedback"), st.just("/v1/feedback"), feedback_body, st.booleans()),
        st.builds(_encoded, st.just("hub"), st.sampled_from(hub), hub_body, st.booleans()),
        st.builds(_encoded, st.just("tensors"), st.sampled_from(infer), infer_body, st.booleans()),
        st.builds(_with_bytes, st.sampled_from(infer), st.lists(texts, max_size=3), st.integers(-9, 9), st.binary(max_size=9)),
        st.builds(_encoded, st.just("any JSON"), paths, values, st.booleans()),
        st.builds(_broken, paths, body, st.binary(max_size=6), st.integers(0, 400)),
        st.builds(_deep, paths, depths, st.sampled_from(["[", '{"a":', '[{"a":'])),
        st.builds(_typed, paths, body, st.sampled_from(TYPES), st.sampled_from(ENCODINGS)),
    )


TYPES = [
    JSON, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/vnd.api+json",
    "application/json;" * 50, "application/octet-stream", "\xe9", "application/json; charset=utf-16",
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-16", "utf-32", "utf-8-sig", "gzip", "deflate"]


def fuzz_texts(address: Address, count: int, dice: random.Random, patience_s: float) -> Tally:
    """Ask so many requests, one after the other; see `fuzz_openapi` for the arguments."""
    tally = Tally()
    models = {one["name"]: one["task"] for one in address.get("/v1/models")["models"]}
    with closing(_Asker(address, patience_s, tally)) as asker:
        ask_with(requests_of(models), count, dice, asker.ask)
    return tally


class _Asker:
    """Keeps one connection for as long as the service does."""

    def __init__(self, address: Address, patience_s: float, tally: Tally) -> None:
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=patience_s)
        self._patience_s, self._tally = patience_s, tally

    def close(self) -> None:
        self._connection.close()

    def ask(self, asked: Asked) -> None:
        for is_last in (False, True):
            try:
                with suppress(BrokenPipeError):  # refused before all of it was sent: the answer is there to be read
                    self._connection.request("POST", asked.path, asked.body, dict(asked.headers))
                response = self._connection.getresponse()
                response.read()
            except TimeoutError:
                self._connection.close()
                self._tally.hung(asked.kind, self._patience_s, asked)
            except (ConnectionError, http.client.HTTPException) as error:
                self._connection.close()
                if not is_last:  # a kept connection may end between two requests
                    continue
                self._tally.broke(asked.kind, f"broke off ({type(error).__name__})", asked)
            else:
                self._tally.answered(asked.kind, response.status, asked, b'"timeout"' in asked.body)
            return


def _encoded(kind: str, path: str, body: Any, escaped: bool) -> Asked:
    """As JSON; where nothing is escaped, lone surrogates make it invalid UTF-8."""
    return Asked(kind, path, json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass"), {"Content-Type": JSON})


def _broken(path: str, body: Any, noise: bytes, place: int) -> Asked:
    whole = json.dumps(body).encode()
    place %= len(whole)
    return Asked("broken JSON", path, whole[:place] + noise + whole[place + 2 * len(noise) :], {"Content-Type": JSON})


def _deep(path: str, depth: int, opening: str) -> Asked:
    return Asked("nested JSON", path, b'{"inputs": ' + opening.encode() * depth, {"Content-Type": JSON})


def _typed(path: str, body: Any, content_type: str, encoding: str) -> Asked:
    text, headers = json.dumps(body), {"Content-Type": content_type}
    if encoding in ("gzip", "deflate"):
        return Asked("wrong type", path, text.encode(), headers | {"Content-Encoding": encoding})
    return Asked("wrong type", path, text.encode(encoding), headers)


def _with_bytes(path: str, texts: list[str], error: int, noise: bytes) -> Asked:
    """Tensors whose data follows the JSON, with lengths that lie."""
    tail = (
        b"".join(len(data).to_bytes(4, "little") + data for data in (one.encode("utf-8", "replace") for one in texts)) + noise
    )
    size = max(0, len(tail) + error)
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(max(0, len(head) + error // 5)),
    }
    return Asked("bytes behind JSON", path, head + tail, headers)
