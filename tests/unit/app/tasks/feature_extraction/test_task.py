"""Feature extraction: prompts, lengths, cuts and norms of vectors, on a graph that is a few numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.tasks.base import Encoded
from app.tasks.feature_extraction.task import (
    Embedding,
    EmbedItem,
    EmbedOptions,
    FeatureExtraction,
    Similarities,
    SimilarityItem,
    cosine,
)
from app.tasks.manifest_options import checked_options
from app.tasks.tokenizer import Tokenizer
from tests.support.live_service import ROOT
from tests.support.tiny_model import VOCABULARY, tiny_tokenizer

GOOD, BAD, FILM, VERY = (VOCABULARY[word] for word in ("good", "bad", "film", "very"))
CLS, SEP = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]


def task(max_tokens: int = 16, dimensions: int = 4, **options: Any) -> FeatureExtraction:
    return FeatureExtraction(tiny_tokenizer(max_tokens), dimensions, **options)


def encoded(extraction: FeatureExtraction, item: Any, **options: Any) -> Encoded:
    (result,) = extraction.encode([item], EmbedOptions(**options))
    assert isinstance(result, Encoded), result
    return result


def refusal(extraction: FeatureExtraction, item: Any, **options: Any) -> HooperError:
    (result,) = extraction.encode([item], EmbedOptions(**options))
    assert isinstance(result, HooperError)
    return result


def ids(result: Encoded) -> list[list[int]]:
    return [list(row.input_ids) for row in result.rows]


def decoded(extraction: FeatureExtraction, result: Encoded, *vectors: list[float], **options: Any) -> Any:
    outputs = [{"logits": np.array(vector, np.float32)} for vector in vectors]
    return extraction.decode(result, outputs, EmbedOptions(**options))


def test_a_text_is_one_row_with_its_special_tokens() -> None:
    result = encoded(task(), EmbedItem("good film"))
    assert ids(result) == [[CLS, GOOD, FILM, SEP]]
    assert (result.num_tokens, result.truncated) == (4, False)


def test_blanks_at_a_texts_ends_are_not_read() -> None:
    assert ids(encoded(task(), EmbedItem("  good film\n"))) == ids(encoded(task(), EmbedItem("good film")))


def test_a_vector_has_the_length_1_unless_the_models_own_is_wished() -> None:
    extraction = task()
    result = encoded(extraction, EmbedItem("good"))
    assert decoded(extraction, result, [3.0, 4.0, 0.0, 0.0]).vector == [0.6, 0.8, 0.0, 0.0]
    assert decoded(extraction, result, [3.0, 4.0, 0.0, 0.0], normalize=False).vector == [3.0, 4.0, 0.0, 0.0]


def test_a_vector_of_zeros_stays_one() -> None:
    extraction = task()
    assert decoded(extraction, encoded(extraction, EmbedItem("good")), [0.0] * 4).vector == [0.0] * 4


# --- prompts

PROMPTS = {"query": "very bad ", "passage": "film ", "none": ""}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, [GOOD]),
        ({"prompt": "query"}, [VERY, BAD, GOOD]),
        ({"prompt_name": "passage"}, [FILM, GOOD]),
        ({"prompt": "none"}, [GOOD]),
        ({"prompt": "film very "}, [FILM, VERY, GOOD]),
    ],
)
def test_a_prompt_is_a_name_of_the_models_or_a_text(options: dict[str, str], words: list[int]) -> None:
    assert ids(encoded(task(prompts=PROMPTS), EmbedItem("good"), **options)) == [[CLS, *words, SEP]]


def test_the_default_prompt_stands_before_a_text_unless_another_is_wished() -> None:
    extraction = task(prompts=PROMPTS, default_prompt="query")
    assert ids(encoded(extraction, EmbedItem("good"))) == [[CLS, VERY, BAD, GOOD, SEP]]
    assert ids(encoded(extraction, EmbedItem("good"), prompt="")) == [[CLS, GOOD, SEP]]


def test_an_unknown_name_of_a_prompt_is_refused_with_those_there_are() -> None:
    error = refusal(task(prompts=PROMPTS), EmbedItem("good"), prompt_name="document")
    assert isinstance(error, InvalidInput)
    assert str(error) == "prompt_name: 'document' is no prompt of this model, which has 'query', 'passage', 'none'"


def test_a_vector_may_be_made_of_the_text_alone() -> None:
    """The row's output position is where the graph begins to pool: behind the first special token and the prompt."""
    extraction = task(prompts=PROMPTS, include_prompt=False)
    (row,) = encoded(extraction, EmbedItem("good"), prompt="query").rows
    assert row.output_positions == (3,)
    (row,) = encoded(extraction, EmbedItem("good")).rows
    assert row.output_positions == (0,)


def test_a_model_of_lower_case_reads_prompts_so_too() -> None:
    extraction = task(prompts={"query": "VERY "}, lower_case=True)
    assert ids(encoded(extraction, EmbedItem("GOOD"), prompt="query")) == [[CLS, VERY, GOOD, SEP]]


# --- long texts


def test_a_long_text_is_the_mean_of_its_windows_by_their_own_tokens() -> None:
    extraction = task(max_tokens=8)
    result = encoded(extraction, EmbedItem("good " * 8))
    assert [len(row.input_ids) for row in result.rows] == [8, 4]
    answer = decoded(extraction, result, [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], normalize=False)
    assert answer.vector == [0.75, 0.25, 0.0, 0.0]
    assert math.isclose(np.linalg.norm(decoded(extraction, result, [1.0, 0, 0, 0], [0.0, 1, 0, 0]).vector), 1.0, rel_tol=1e-6)


def test_the_mean_of_windows_has_the_length_1_where_the_models_vectors_have() -> None:
    extraction = task(max_tokens=8, is_normalized=True)
    result = encoded(extraction, EmbedItem("good " * 12))
    answer = decoded(extraction, result, [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], normalize=False)
    assert answer.vector == [0.70710678, 0.70710678, 0.0, 0.0]


def test_every_window_begins_with_the_prompt() -> None:
    result = encoded(task(max_tokens=8, prompts=PROMPTS), EmbedItem("good " * 6), prompt="query")
    assert ids(result) == [[CLS, VERY, BAD, *[GOOD] * 4, SEP], [CLS, VERY, BAD, GOOD, GOOD, SEP]]


@pytest.mark.parametrize(("side", "kept"), [("right", [GOOD] * 6), ("left", [*[GOOD] * 5, FILM])])
def test_a_cut_text_loses_the_end_that_is_wished(side: Any, kept: list[int]) -> None:
    result = encoded(task(max_tokens=8), EmbedItem("good " * 7 + "film"), truncation="truncate", truncation_side=side)
    assert ids(result) == [[CLS, *kept, SEP]]
    assert result.truncated


def test_a_long_text_is_refused_where_that_is_wished() -> None:
    assert isinstance(refusal(task(max_tokens=8), EmbedItem("good " * 8), truncation="error"), TooLarge)


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    error = refusal(task(max_tokens=8), EmbedItem("good " * 8), prompt="very " * 6)
    assert str(error) == "prompt: has 6 tokens, which leave no room for a text: the model reads 6"


# --- shorter vectors


def test_a_vector_is_cut_before_it_is_scaled() -> None:
    extraction = task(is_matryoshka=True)
    result = encoded(extraction, EmbedItem("good"), dimensions=2)
    assert decoded(extraction, result, [3.0, 4.0, 12.0, 5.0], dimensions=2).vector == [0.6, 0.8]


@pytest.mark.parametrize(
    ("options", "wished", "reason"),
    [
        ({}, 2, "dimensions: the vectors of this model have 4, and it was not trained for shorter ones; leave it out"),
        ({}, 5, "dimensions: is 5, but the vectors of this model have 4"),
        ({"matryoshka_dimensions": [2, 3]}, 1, "dimensions: is 1; this model was trained for 2, 3 and 4"),
    ],
)
def test_a_model_is_cut_only_to_what_it_was_trained_for(options: dict[str, Any], wished: int, reason: str) -> None:
    assert str(refusal(task(**options), EmbedItem("good"), dimensions=wished)) == reason
    encoded(task(**options), EmbedItem("good"), dimensions=4)


# --- token ids


def test_token_ids_of_the_models_own_are_read_as_they_are() -> None:
    result = encoded(task(prompts=PROMPTS, default_prompt="query"), EmbedItem("", (GOOD, FILM)))
    assert ids(result) == [[CLS, GOOD, FILM, SEP]]


def test_token_ids_of_another_tokenizer_are_refused() -> None:
    error = refusal(task(), EmbedItem("", (GOOD, 99)))
    assert (
        str(error) == "text: 99 is no token of this model, whose own tokenizer knows 14; send texts, which are tokenized here"
    )


def test_numbers_that_mean_other_words_to_another_tokenizer_are_refused() -> None:
    tokenizer = Tokenizer.from_file(ROOT / "models/embed/1/tokenizer.json", 512)
    shipped = FeatureExtraction(tokenizer, 384)
    of_openai = (83, 1609, 5963, 374, 2294, 0)  # "tiktoken is great!", as OpenAI's cl100k_base has it
    assert "makes other tokens of the text" in str(refusal(shipped, EmbedItem("", of_openai)))
    (own,) = tokenizer.pieces().encode(["tiktoken isn't great, naïve or 3.5 %! 日本語 🙂"])
    encoded(shipped, EmbedItem("", tuple(own.ids)))
    encoded(shipped, EmbedItem("", tuple(own.ids[1:-1])))  # as of a text that was cut within a word


# --- comparing


def test_sentences_are_compared_by_the_cosine_of_their_vectors() -> None:
    extraction = task()
    result = encoded(extraction, SimilarityItem("good", ("bad", "good " * 20)))
    assert len(result.rows) == 4
    vectors = [[2.0, 0, 0, 0], [0.0, 3, 0, 0], [1.0, 1, 0, 0], [1.0, 1, 0, 0]]
    answer = decoded(extraction, result, *vectors, normalize=False)
    assert isinstance(answer, Similarities)
    assert answer.scores == pytest.approx([0.0, math.sqrt(0.5)], abs=1e-6)


def test_each_side_of_a_comparison_may_have_its_own_prompt() -> None:
    item = SimilarityItem("good", ("bad",), "query", "passage")
    assert ids(encoded(task(prompts=PROMPTS), item)) == [[CLS, VERY, BAD, GOOD, SEP], [CLS, FILM, BAD, SEP]]


def test_a_compared_sentence_that_is_none_is_named() -> None:
    assert str(refusal(task(), SimilarityItem("good", ("bad", " ")))) == "sentences.1: must not be empty"


def test_an_item_that_is_refused_does_not_shift_the_others() -> None:
    items = [SimilarityItem("good", (" ", "bad")), EmbedItem("film"), EmbedItem(" "), EmbedItem("very")]
    first, second, third, last = task().encode(items, EmbedOptions())
    assert isinstance(first, InvalidInput)
    assert isinstance(third, InvalidInput)
    assert [ids(result) for result in (second, last) if isinstance(result, Encoded)] == [[[CLS, FILM, SEP]], [[CLS, VERY, SEP]]]


# --- agreement


def test_two_vectors_agree_from_a_cosine_of_0_995_on() -> None:
    extraction, options = task(), EmbedOptions()
    angle = math.acos(0.995)
    for shift, agrees in ((-1e-4, True), (1e-4, False)):
        other = Embedding([math.cos(angle + shift), math.sin(angle + shift)])
        assert extraction.same_decision(Embedding([1.0, 0.0]), other, options) is agrees


def test_a_golden_vector_may_turn_as_far_as_rounding_turns_it() -> None:
    extraction = task()
    result = encoded(extraction, EmbedItem("good"))
    outputs = [{"logits": np.array([1.0, 0.05, 0.0, 0.0], np.float32)}]
    assert extraction.golden_difference(result, outputs, {"vector": [1.0, 0.0, 0.0, 0.0]}, 0.02) == ""
    assert "cosine" in extraction.golden_difference(result, outputs, {"vector": [0.0, 1.0, 0.0, 0.0]}, 0.02)
    assert "components" in extraction.golden_difference(result, outputs, {"vector": [1.0]}, 0.02)


def test_a_vector_decides_nothing() -> None:
    assert task().decision(Embedding([1.0]), EmbedOptions()) is None


def test_the_size_of_a_vector_stands_in_the_manifest() -> None:
    with pytest.raises(InvalidArtefact, match=r"task_options\.dimensions"):
        checked_options(FeatureExtraction, {})


def test_the_cosine_does_not_depend_on_lengths() -> None:
    assert cosine([1.0, 1.0], [10.0, 10.0]) == pytest.approx(1.0)
