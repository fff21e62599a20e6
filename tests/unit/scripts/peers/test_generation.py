"""What is measured of models that write beside others, without the others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.errors import SetupError
from scripts.bench.service import Address
from scripts.peers import generation
from scripts.peers.generation import Asked, callers, page, rates, ratios, sources, spread, timed, turned
from scripts.peers.random_writers import SHAPES


def test_ratios_are_hoopers_tokens_in_parts_of_anothers() -> None:
    figures = {
        "Hooper int8": 60.0,
        "CTranslate2 int8": 40.0,
        "Hooper fp32": 30.0,
        "CTranslate2 fp32": 30.0,
        "transformers fp32": 20.0,
    }
    engines = [{"model": "m", "sequences": 16, "engine": name, "tokens_per_s": figure} for name, figure in figures.items()]
    assert ratios(engines) == [
        {
            "model": "m",
            "sequences": 16,
            "Hooper int8 / CTranslate2 int8": 1.5,
            "Hooper fp32 / CTranslate2 fp32": 1.0,
            "Hooper int8 / transformers fp32": 3.0,
            "Hooper fp32 / transformers fp32": 1.5,
        }
    ]


def test_the_page_has_every_figure() -> None:
    engines = [
        {"model": "m", "sequences": 1, "engine": name, "tokens_per_s": 12.5, "noise": 0.01, "tokens_per_cpu_s": 9.5}
        for name in ("Hooper int8", "CTranslate2 int8", "Hooper fp32", "CTranslate2 fp32", "transformers fp32")
    ]
    callers = [{"service": "Hooper int8", "tokens_per_s": 7.5}]
    http = {"served": "m", "callers": callers, "classified_ms": {"alone": 3.5, "beside 16 texts": 7.0}, "classified_ratio": 2.0}
    text = page(
        {
            "new_tokens": 32,
            "turns": 5,
            "threads": 2,
            "engines": engines,
            "ratios": ratios(engines),
            "cpu_ratios": ratios(engines, "tokens_per_cpu_s"),
            "http": http,
        }
    )
    assert "| model | sequences | engine | tokens per s | noise | tokens per cpu s |" in text
    assert "| m | 1 | CTranslate2 int8 | 12.5 | 0.01 | 9.5 |" in text
    assert "| Hooper int8 | 7.5 |" in text
    assert "(median): alone 3.5 ms, beside 16 texts 7.0 ms, 2.0 times as long." in text


def test_the_median_counts_and_the_noise_is_told() -> None:
    assert spread(iter([10.0, 30.0, 20.0, 20.0, 20.0])) == {"tokens_per_s": 20.0, "noise": 0.25}
    assert spread(iter([10.0])) == {"tokens_per_s": 10.0, "noise": 0.0}


def test_processor_time_counts_beside_the_clock() -> None:
    assert rates(64, [(2.0, 0.5), (4.0, 1.0), (8.0, 2.0)]) | {"noise": 0.0} == {
        "tokens_per_s": 16.0,
        "noise": 0.0,
        "tokens_per_cpu_s": 64.0,
    }
    wall_s, cpu_s = timed(lambda count: sum(range(10_000 * count)))(5)
    assert 0 < cpu_s <= wall_s + 0.05


def test_everyone_is_asked_first_in_turn() -> None:
    assert [turned(["a", "b", "c"], turn)[0] for turn in range(4)] == ["a", "b", "c", "a"]
    assert sorted(turned(["a", "b", "c"], 2)) == ["a", "b", "c"]


def test_sources_are_as_long_as_was_said_and_end() -> None:
    rows = sources(SHAPES["bart-base"], 3, 7)
    assert [len(row) for row in rows] == [7, 7, 7]
    assert all(row[-1] == 2 for row in rows)
    assert len({tuple(row) for row in rows}) == 3


async def test_callers_ask_until_the_time_is_over_and_tell_what_they_saw() -> None:
    asked: list[tuple[int, int]] = []

    async def ask(client: httpx.AsyncClient, caller: int, text: str, num_new: int) -> float | None:
        asked.append((caller, num_new))
        await asyncio.sleep(0)
        return 0.5 if caller == 0 else None

    seen: Asked = await callers(Address("127.0.0.1", 9), ask, 3, 0.02, seed=1)
    assert {caller for caller, _ in asked} == {0, 1, 2}
    assert all(generation.LENGTHS[0] <= num_new <= generation.LENGTHS[1] for _, num_new in asked)
    assert len(seen.answer_s) == len(asked)
    assert set(seen.first_token_s) == {0.5}
    assert seen.tokens_per_s > 0


def test_quick_is_a_few_turns_of_some_shapes_and_a_page_gets_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nBehind.\n", encoding="utf-8")

    def measured(name: str, options: Any) -> list[dict[str, Any]]:
        figures = {"Hooper int8": 60.0, "CTranslate2 int8": 40.0, "Hooper fp32": 30.0, "CTranslate2 fp32": 30.0}
        engines = {**figures, "transformers fp32": float(options.turns)}
        return [
            {"model": name, "sequences": 1, "engine": engine, "tokens_per_s": per_s, "tokens_per_cpu_s": 2 * per_s}
            for engine, per_s in engines.items()
        ]

    monkeypatch.setattr(generation, "measure_engines", measured)
    assert generation.main(["--quick", "--no-service", "--page", str(page)]) == 0
    assert json.loads(capsys.readouterr().out)["turns"] == 3
    text = page.read_text(encoding="utf-8")
    assert (text[:8], text[-8:], "old" in text) == ("Before.\n", "Behind.\n", False)
    assert "| opus-mt | 1 | 1.5 | 1.0 | 20.0 | 10.0 |" in text
    assert "bart-base" not in text


def test_what_cannot_be_installed_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> list[Any]:
        raise SetupError("pip install failed: no network")

    monkeypatch.setattr(generation, "measure_engines", fails)
    assert generation.main(["--shapes", "t5-small"]) == 2
    assert "generation: pip install failed: no network" in capsys.readouterr().err
