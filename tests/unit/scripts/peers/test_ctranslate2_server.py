"""The server that CTranslate2 is measured behind collects what waits, and gives each text its own tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.peers.ctranslate2_server import MAX_BATCH_SIZE, Collector, Waiting, translator_of


async def test_texts_that_wait_are_translated_together_and_answered_apart() -> None:
    batches: list[int] = []

    def translate(batch: Sequence[Waiting]) -> list[list[str]]:
        batches.append(len(batch))
        return [[*entry.tokens, "x"] for entry in batch]

    collector = Collector(translate)
    asked = [collector.ask([str(number)], 3) for number in range(MAX_BATCH_SIZE + 2)]
    entries = await asyncio.gather(*asked)
    assert [entry.answer.result() for entry in entries] == [[str(number), "x"] for number in range(MAX_BATCH_SIZE + 2)]
    assert batches == [MAX_BATCH_SIZE, 2]
    assert (await collector.ask(["later"], 1)).answer.result() == ["later", "x"]


@dataclass
class Step:
    batch_id: int
    step: int


@dataclass
class Written:
    hypotheses: list[list[str]]


class Model:
    """Writes `step` by `step` until it is told to stop, as `ctranslate2.Translator` does."""

    def translate_batch(self, sources: list[list[str]], callback: Any, max_decoding_length: int, **_: Any) -> list[Written]:
        written: list[list[str]] = [[] for _ in sources]
        running = list(range(len(sources)))
        for step in range(max_decoding_length):
            for number in running:
                written[number].append(f"{sources[number][0]}{step}")
            running = [number for number in running if not callback(Step(number, step))]
        return [Written([tokens]) for tokens in written]


async def test_each_text_stops_at_its_own_length_and_knows_its_first_token() -> None:
    collector = Collector(translator_of(Model(), "unused"))
    short, long = await asyncio.gather(collector.ask(["a"], 2), collector.ask(["b"], 4))
    assert short.answer.result() == ["a0", "a1"]
    assert long.answer.result() == ["b0", "b1", "b2", "b3"]
    assert short.first_token_s > 0
