"""How long an explanation takes: which reviews are sent, and what is said of the answers' times."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scripts.bench.explain_latency import NUM_WARM_UP, WORDS, main, measure_method, reviews


class InstantService:
    """A service that answers at once; keeps what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/v1/explain"
        self.bodies.append(body)
        return {"usage": {"num_tokens": 100 * len(self.bodies)}}


def test_the_reviews_are_different_ones_of_about_200_words() -> None:
    found = reviews(15)
    assert len(set(found)) == 15
    assert all(len(text.split()) in WORDS for text in found)


def test_what_is_sent_to_warm_up_does_not_count() -> None:
    service = InstantService()
    found = measure_method(service, "sentiment", ["a", "b", "c"], "shapley")  # type: ignore[arg-type]
    assert [body["inputs"] for body in service.bodies] == ["a", "b", "a", "b", "c"]
    assert {body["method"] for body in service.bodies} == {"shapley"}
    assert found["tokens_read"] == 100 * (NUM_WARM_UP + 2)
    assert 0 <= found["p50_s"] <= found["max_s"]


@pytest.mark.slow
def test_a_service_that_cannot_start_is_told_in_one_sentence(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == 2
    assert re.match(r"explain_latency: .* ended with exit code 2 before it was ready\n$", capsys.readouterr().err)
