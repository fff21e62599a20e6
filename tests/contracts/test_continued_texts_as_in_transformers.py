"""A text is continued as transformers continues it, alone and beside others, whatever the family and the options."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.sequences import SamplingParams
from app.core.types import RowOutput
from app.runtime import generation_engine
from tests.support.tiny_causal import EOS, continued, engine_of, model_of, rows_of

ROWS = rows_of((1, 4, 9, 17))
BEAMS = {"num_beams": 3, "num_return_sequences": 3}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 16},
    "penalties": {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
    "forbidden": {"bad_words_ids": ((4,), (9, 10), (5, 6))},
    "beams": BEAMS,
    "beams, early": {**BEAMS, "early_stopping": True},
    "beams, long ones preferred": {**BEAMS, "length_penalty": 2.5},
    "beams, penalties": {**BEAMS, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
}  # fmt: skip
FAMILIES = ("gpt2", "llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2 with windows", "gemma2", "phi")))


def sequences(output: RowOutput, number: int) -> list[list[int]]:
    return [output["token_ids"][output["sequence_index"] == place].tolist() for place in range(number)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_continued_as_by_generate(family: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_engine, "PROMPT_TOKENS", 6)  # so that the longest row is read in three steps
    model, engine = model_of(family), engine_of(family)
    sampling = SamplingParams(**{"max_new_tokens": 10, "eos_token_ids": (EOS,), **WAYS[way]})
    together = engine.generate(ROWS, sampling)
    expected = [continued(model, row, sampling) for row in ROWS]
    assert [sequences(output, sampling.num_return_sequences) for output in together] == expected
    (alone,) = engine.generate(ROWS[2:3], sampling)
    assert sequences(alone, sampling.num_return_sequences) == expected[2]
    assert len({tuple(found[0]) for found in expected}) > 1
