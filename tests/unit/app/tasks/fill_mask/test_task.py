"""Masks of a text: each filled for itself, with its own tokens, targets, windows and sequences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, decoders
from tokenizers import Tokenizer as _Tokenizer

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.tasks.base import Encoded
from app.tasks.fill_mask.task import FilledMasks, FillMask, FillOptions, MaskedItem, best_ids
from app.tasks.tokenizer import Tokenizer
from tests.support.tiny_model import VOCABULARY, tiny_tokenizer
from tests.support.tokenizer_types import definition

NUM_TOKENS = len(VOCABULARY) + 1
DEFAULTS = FillOptions()


@pytest.fixture
def task() -> FillMask:
    return FillMask(tiny_tokenizer(has_mask=True))


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """As RoBERTa's: a word's first piece holds the blank before it, and so does the mask."""
    tokenizer = _Tokenizer.from_str(definition("byte-level BPE, trim True, prefix False False"))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return Tokenizer(tokenizer.to_str(), 64)


def encode(task: FillMask, text: str, options: FillOptions = DEFAULTS, **item: Any) -> Encoded | HooperError:
    (encoded,) = task.encode([MaskedItem(text, **item)], options)
    return encoded


def filled(
    task: FillMask, text: str, tokens: Sequence[dict[str, float]], options: FillOptions = DEFAULTS, size: int = NUM_TOKENS
) -> FilledMasks:
    """What is made of logits that are those of these tokens at each mask, and 0 for others."""
    encoded = encode(task, text, options)
    assert isinstance(encoded, Encoded)
    logits = np.zeros((len(tokens), size), np.float32)
    for line, scores in zip(logits, tokens, strict=True):
        for token, score in scores.items():
            number = task._tokenizer.token_id(token)
            assert number is not None
            line[number] = score
    parts = np.split(logits, np.cumsum([len(row.output_positions) for row in encoded.rows])[:-1])
    answer = task.decode(encoded, [{"logits": part} for part in parts], options)
    for mask in answer.masks:
        assert text[mask.start : mask.end] == task.mask
    return answer


def words_of(answer: FilledMasks) -> list[list[str]]:
    return [[fill.token for fill in mask.fills] for mask in answer.masks]


def test_each_mask_is_read_where_it_stands_and_filled_for_itself(task: FillMask) -> None:
    encoded = encode(task, "the [MASK] was [MASK].")
    assert isinstance(encoded, Encoded)
    (row,) = encoded.rows
    assert [row.input_ids[place] for place in row.output_positions] == [NUM_TOKENS - 1] * 2
    answer = filled(task, "the [MASK] was [MASK].", [{"film": 9}, {"good": 9, "bad": 8}], FillOptions(top_k=2))
    assert [words[0] for words in words_of(answer)] == ["film", "good"]
    assert words_of(answer)[1] == ["good", "bad"]
    assert [mask.fills[0].sequence for mask in answer.masks] == ["the film was [MASK].", "the [MASK] was good."]
    assert best_ids(answer) == [VOCABULARY["film"], VOCABULARY["good"]]


def test_scores_are_shares_of_the_whole_vocabulary_also_of_targets(task: FillMask) -> None:
    scores = {"film": 5.0, "good": 3.0, "bad": 2.0}
    total = sum(np.exp(score) for score in scores.values()) + NUM_TOKENS - 3
    (whole,) = filled(task, "a [MASK]", [scores], FillOptions(top_k=100)).masks
    assert sum(fill.score for fill in whole.fills) == pytest.approx(1.0)
    assert len(whole.fills) == NUM_TOKENS
    (mask,) = filled(task, "a [MASK]", [scores], FillOptions(targets=("bad", "Good", "good"))).masks
    assert [(fill.token, fill.score) for fill in mask.fills] == [
        ("good", pytest.approx(np.exp(3) / total)),
        ("bad", pytest.approx(np.exp(2) / total)),
    ]
    assert len(filled(task, "a [MASK]", [scores], FillOptions(1, ("bad", "good"))).masks[0].fills) == 1


def test_a_piece_that_goes_on_a_word_is_joined_to_it(task: FillMask) -> None:
    (mask,) = filled(task, "the film [MASK] was", [{"##s": 9}]).masks
    assert (mask.fills[0].token, mask.fills[0].sequence) == ("##s", "the films was")


def test_other_tokens_of_the_text_stay_as_they_are_written(task: FillMask) -> None:
    (mask,) = filled(task, "THE  [MASK],\nwas", [{"film": 9}]).masks
    assert mask.fills[0].sequence == "THE  film,\nwas"


def test_pieces_that_hold_the_blank_before_them_stand_where_the_mask_stood(byte_level: Tokenizer) -> None:
    task, size = FillMask(byte_level), byte_level.vocabulary_size()
    assert task.mask == "<mask>"
    text = "The <mask> cost <mask>."
    answer = filled(task, text, [{"Ġbridge": 9}, {"e": 9}], size=size)
    assert [mask.fills[0].token for mask in answer.masks] == [" bridge", "e"]
    assert [mask.fills[0].sequence for mask in answer.masks] == ["The bridge cost <mask>.", "The <mask> coste."]
    hub = filled(task, text, [{"Ġbridge": 9}, {"e": 9}], FillOptions(is_hub=True), size)
    assert [mask.fills[0].sequence for mask in hub.masks] == [
        "<s>The bridge cost<mask>.</s>",
        "<s>The<mask> coste.</s>",
    ]


def test_a_target_is_the_likelier_of_its_tokens_with_and_without_a_blank(byte_level: Tokenizer) -> None:
    task, size = FillMask(byte_level), byte_level.vocabulary_size()
    for best in ("Ġa", "a"):
        (mask,) = filled(task, "It is <mask> film", [{best: 3.0}], FillOptions(targets=("a",)), size).masks
        assert [fill.id for fill in mask.fills] == [byte_level.token_id(best)]
    (hub,) = filled(task, "It is <mask> film", [{"Ġa": 3.0}], FillOptions(targets=("a",), is_hub=True), size).masks
    assert [fill.id for fill in hub.fills] == [byte_level.token_id("a")]  # transformers' pipeline takes the word as written


def test_a_target_that_the_vocabulary_lacks_is_refused(task: FillMask) -> None:
    error = encode(task, "a [MASK]", FillOptions(targets=("good", "😀")))
    assert isinstance(error, InvalidInput)
    assert (error.field, error.detail) == ("targets.1", "targets.1: '😀' is unknown to this model")


def test_a_target_that_the_head_does_not_give_is_never_filled_in(task: FillMask) -> None:
    """Tokens may have been added to a tokenizer, and not to the model."""
    last = list(VOCABULARY)[-1]
    options = FillOptions(targets=("bad", last))
    (mask,) = filled(task, "a [MASK]", [{"bad": 1.0}], options, size=NUM_TOKENS - 2).masks
    assert [(fill.token, fill.score > 0) for fill in mask.fills] == [("bad", True), (last, False)]


def test_a_target_of_several_tokens_is_refused_by_its_place_or_its_first_counts(task: FillMask) -> None:
    error = encode(task, "a [MASK]", FillOptions(targets=("good", "films")))
    assert isinstance(error, InvalidInput)
    assert error.field == "targets.1"
    assert "2: film ##s" in error.detail
    (mask,) = filled(task, "a [MASK]", [{}], FillOptions(targets=("films",), is_hub=True)).masks
    assert words_of(FilledMasks([mask])) == [["film"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" ", "must not be empty"),
        ("a film", r"no mask: write \[MASK\]"),
        ("a <mask> film", r"<mask>, which is another model's mask; this one's is \[MASK\]"),
        ("[MASK] " * 17, "17 masks, more than 16"),
    ],
)
def test_a_text_without_the_models_own_mask_is_an_error_in_its_place(task: FillMask, text: str, why: str) -> None:
    error, good = task.encode([MaskedItem(text), MaskedItem("a [MASK]")], DEFAULTS)
    assert isinstance(error, HooperError)
    with pytest.raises(HooperError, match=why):
        raise error
    assert isinstance(good, Encoded)


def test_another_sign_may_stand_for_the_mask(task: FillMask) -> None:
    encoded = encode(task, "the ___ was", mask="___")
    assert isinstance(encoded, Encoded)
    assert encoded.state.tokens.text == "the [MASK] was"


def test_a_tokenizer_without_a_mask_is_none_for_this_task() -> None:
    with pytest.raises(InvalidArtefact, match="no mask token"):
        FillMask(tiny_tokenizer())


# --- long texts


def test_of_a_long_text_the_windows_around_its_masks_are_read() -> None:
    task = FillMask(tiny_tokenizer(12, has_mask=True))  # ten tokens of the text
    text = f"[MASK] {'film ' * 30}[MASK] {'film ' * 30}[MASK] [MASK]"
    encoded = encode(task, text)
    assert isinstance(encoded, Encoded)
    assert [len(row.output_positions) for row in encoded.rows] == [1, 1, 2]
    assert not encoded.truncated
    for row in encoded.rows:
        assert row.num_tokens == 12
        assert all(row.input_ids[place] == NUM_TOKENS - 1 for place in row.output_positions)
    (middle,) = encoded.rows[1].output_positions
    assert middle == 6  # with as much context on either side
    answer = filled(task, text, [{"a": 9}, {"the": 9}, {"good": 9}, {"bad": 9}])
    assert [words[0] for words in words_of(answer)] == ["a", "the", "good", "bad"]


def test_a_long_text_is_cut_or_refused_where_that_is_wanted() -> None:
    task = FillMask(tiny_tokenizer(12, has_mask=True))
    text = f"a [MASK] {'film ' * 30}[MASK]"
    cut = encode(task, text, FillOptions(truncation="truncate"))
    assert isinstance(cut, Encoded)
    assert (len(cut.rows), cut.rows[0].output_positions, cut.truncated, cut.num_tokens) == (1, (2,), True, 12)
    assert isinstance(encode(task, text, FillOptions(truncation="error")), TooLarge)
    behind = encode(task, f"{'film ' * 30}[MASK]", FillOptions(truncation="truncate"))
    assert isinstance(behind, TooLarge)
    assert "behind the 12 tokens" in behind.detail


# --- comparing answers


def test_golden_answers_may_differ_only_by_rounding_and_ties(task: FillMask) -> None:
    text = "a [MASK] [MASK]"
    encoded = encode(task, text)
    assert isinstance(encoded, Encoded)
    logits = np.zeros((2, NUM_TOKENS), np.float32)
    logits[:, VOCABULARY["film"]] = 5.0
    expected = json.loads(json.dumps(asdict(task.decode(encoded, [{"logits": logits}], DEFAULTS))))

    def difference(values: np.ndarray, published: Any = expected) -> str:
        return task.golden_difference(encoded, [{"logits": values}], published, 0.02)

    assert difference(logits + 0.5) == ""
    assert "'film' scores" in difference(logits * 0.9)
    assert "2 masks are filled, 1 were" in difference(logits, {"masks": expected["masks"][:1]})
    other = logits.copy()
    other[1] = 0
    other[1, VOCABULARY["good"]] = 5.0
    assert "at mask 2" in difference(other)
    best = task.decode(encoded, [{"logits": logits}], DEFAULTS)
    assert task.same_decision(best, best, DEFAULTS)
    assert not task.same_decision(best, task.decode(encoded, [{"logits": other}], DEFAULTS), DEFAULTS)
    decision = task.decision(best, DEFAULTS)
    assert decision is not None
    assert (decision.label, decision.confidence) == ("", best.masks[0].fills[0].score)
