"""A text is continued as transformers continues it, alone and beside others, whatever the family and the options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import onnxruntime
import pytest

from app.core.sequences import Batch, SamplingParams, Sequence
from app.core.types import Row, RowOutput
from app.runtime import prompts
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


@pytest.fixture(autouse=True)
def short_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prompts, "PROMPT_TOKENS", 6)  # so that the longest row is read in three steps
        yield


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_continued_as_by_generate(family: str, way: str) -> None:
    model, engine = model_of(family), engine_of(family)
    sampling = SamplingParams(**{"max_new_tokens": 10, "eos_token_ids": (EOS,), **WAYS[way]})
    together = engine.generate(ROWS, sampling)
    expected = [continued(model, row, sampling) for row in ROWS]
    assert [sequences(output, sampling.num_return_sequences) for output in together] == expected
    (alone,) = engine.generate(ROWS[2:3], sampling)
    assert sequences(alone, sampling.num_return_sequences) == expected[2]
    assert len({tuple(found[0]) for found in expected}) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_beginning_that_is_not_read_again_is_continued_as_by_generate(family: str) -> None:
    model, engine = model_of(family), engine_of(family)
    sampling = SamplingParams(max_new_tokens=10, eos_token_ids=(EOS,), prefix_owner="a")
    (stem,) = rows_of((17,))
    rows = [
        Row([*stem.input_ids[:size], *end], [0] * (size + len(end))) for size, end in ((17, [9]), (17, [4, 8, 5]), (13, [7]))
    ]
    for row in rows:
        (output,) = engine.generate([row], sampling)
        assert sequences(output, 1) == continued(model, row, sampling)
    beams = replace(sampling, num_beams=3, num_return_sequences=3)
    assert sequences(engine.generate(rows[:1], beams)[0], 3) == continued(model, rows[0], beams)
    assert [reused(engine, row) for row in rows] == [12, 18, 12]  # whole pieces of six, and at least one token is left


def reused(engine: Any, row: Row) -> int:
    """Tokens of a row that are not read."""
    sequence = Sequence(row, SamplingParams(max_new_tokens=1, prefix_owner="a"), cache_slot=99)
    step = engine._step(Batch("prefill", [sequence]), onnxruntime.RunOptions())
    engine.release([99])
    return int(step.num_reused[0])
