"""Entities of a text: strategies, words, labels in any scheme, places in any script, windows of any number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from app.core.errors import InvalidInput, TooLarge
from app.tasks.base import Encoded
from app.tasks.platt import PlattScaling
from app.tasks.token_classification.task import (
    Entity,
    TagItem,
    TagOptions,
    TokenClassification,
    label_parts,
    log_odds,
)
from app.tasks.tokenizer import Tokenizer

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "anna", "##lena", "met", "bob", "in", "new", "york", ".", ",", "ber", "##n",
)  # fmt: skip
DEFAULTS = TagOptions()


def wordpiece(max_tokens: int = 64) -> Tokenizer:
    tokenizer = _Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(tokenizer.to_str(), max_tokens)


def metaspace() -> Tokenizer:
    """A tokenizer that knows only blanks, and gives each character a token, as SentencePiece's do with unknown words."""
    characters = ["<s>", "</s>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,.東京大阪é"]
    tokenizer = _Tokenizer(models.Unigram([(character, -1.0) for character in characters], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return Tokenizer(tokenizer.to_str(), 64)


def logits_for(numbers: Sequence[int], num_labels: int = len(LABELS), sure: float = 9.0) -> np.ndarray:
    """Logits that say these labels, one a token."""
    logits = np.zeros((len(numbers), num_labels), np.float32)
    logits[np.arange(len(numbers)), numbers] = sure
    return logits


def encode(task: TokenClassification, text: str, options: TagOptions = DEFAULTS) -> Encoded:
    (encoded,) = task.encode([TagItem(text)], options)
    assert isinstance(encoded, Encoded)
    return encoded


def outputs_of(encoded: Encoded, of_tokens: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What a model answers that says this of each of the text's tokens: (tokens, labels)."""
    reading = encoded.state
    outputs = []
    for row, window in zip(encoded.rows, reading.windows, strict=True):
        logits = np.full((row.num_tokens, of_tokens.shape[1]), -99.0, np.float32)
        logits[reading.first : reading.first + len(window)] = of_tokens[window.start : window.stop]
        outputs.append({"logits": logits})
    return outputs


def tagged(task: TokenClassification, text: str, tags: Sequence[str], **options: Any) -> list[tuple[str, str]]:
    """Labels and texts of the entities where the model gives each token this label."""
    chosen = TagOptions(**options)
    encoded = encode(task, text, chosen)
    numbers = [task.labels.index(tag) for tag in tags]
    answer = task.decode(encoded, outputs_of(encoded, logits_for(numbers, len(task.labels))), chosen)
    for entity in answer.entities:
        assert text[entity.start : entity.end] == entity.text
        assert 0 < entity.score <= 1
    return [(entity.label, entity.text) for entity in answer.entities]


@pytest.fixture
def task() -> TokenClassification:
    return TokenClassification(wordpiece(), LABELS)


# --- what is an entity


def test_scores_of_entities_lie_on_the_models_line_and_those_of_tokens_do_not(task: TokenClassification) -> None:
    scaled = TokenClassification(wordpiece(), LABELS, score_slope=0.5, score_intercept=-2.0)
    encoded = encode(task, "Anna Bob met")
    outputs = outputs_of(encoded, logits_for([1, 2, 0], sure=6.0))
    (before,), (after,) = (each.decode(encoded, outputs, DEFAULTS).entities for each in (task, scaled))
    assert after.score == pytest.approx(float(PlattScaling(0.5, -2.0)(before.score)))
    assert (after.text, after.label) == (before.text, before.label)
    expected = {"entities": [asdict(scaled.decode(encoded, outputs, DEFAULTS).entities[0])]}
    surer = outputs_of(encoded, logits_for([1, 2, 0], sure=6.5))
    assert abs(scaled.decode(encoded, surer, DEFAULTS).entities[0].score - after.score) > 0.02
    assert scaled.golden_difference(encoded, surer, expected, 0.02) == ""
    assert "scores" in scaled.golden_difference(encoded, outputs_of(encoded, logits_for([1, 2, 0], sure=4.0)), expected, 0.02)
    tokens = TagOptions(aggregation="none")
    assert scaled.decode(encoded, outputs, tokens) == task.decode(encoded, outputs, tokens)


def test_neighbours_of_one_label_are_an_entity_with_its_own_characters(task: TokenClassification) -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]
    assert tagged(task, "Anna Bob met New  York .", ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]) == [
        ("PER", "Anna Bob"),
        ("LOC", "New  York"),
    ]
    assert tagged(task, "Anna Bob met New  York .", ["O"] * len(tags)) == []


@pytest.mark.parametrize(
    ("labels", "tags", "entities"),
    [
        (LABELS, ["B-PER", "B-PER", "O"], ["Anna", "Bob"]),
        (LABELS, ["I-PER", "I-PER", "O"], ["Anna Bob"]),
        (LABELS, ["B-PER", "I-LOC", "O"], ["Anna", "Bob"]),
        (("O", "B-P", "I-P", "E-P", "S-P"), ["B-P", "E-P", "S-P"], ["Anna Bob", "met"]),
        (("O", "B-P", "I-P", "E-P", "S-P"), ["S-P", "I-P", "E-P"], ["Anna", "Bob met"]),
        (("O", "B-P", "I-P", "L-P", "U-P"), ["U-P", "B-P", "L-P"], ["Anna", "Bob met"]),
        (("O", "B_P", "I_P"), ["B_P", "I_P", "O"], ["Anna Bob"]),
        (("O", "I-PER"), ["I-PER", "I-PER", "O"], ["Anna Bob"]),
        (("PER", "O", "LOC"), ["PER", "PER", "LOC"], ["Anna Bob", "met"]),
    ],
)
def test_prefixes_say_where_an_entity_begins_and_ends(labels: Sequence[str], tags: Sequence[str], entities: list[str]) -> None:
    task = TokenClassification(wordpiece(), labels)
    assert [text for _, text in tagged(task, "Anna Bob met", tags)] == entities


def test_only_labels_among_prefixed_ones_have_a_prefix() -> None:
    assert [part.type for part in label_parts(["O", "DATE-TIME", "S-Bahn", "B-X"])] == ["O", "DATE-TIME", "S-Bahn", "X"]
    assert [part.type for part in label_parts(["O", "B-DATE-TIME", "S-X"])] == ["O", "DATE-TIME", "X"]
    assert [(part.place, part.type) for part in label_parts(["o", "M-X", "E-X"])] == [("I", "o"), ("I", "X"), ("E", "X")]


# --- strategies


@pytest.mark.parametrize(
    ("aggregation", "entities"),
    [
        ("none", [("B-PER", "Anna"), ("I-LOC", "lena"), ("B-LOC", "Bob")]),
        ("simple", [("PER", "Anna"), ("LOC", "lena"), ("LOC", "Bob")]),
        ("first", [("PER", "Annalena"), ("LOC", "Bob")]),
    ],
)
def test_words_stay_whole_unless_tokens_are_wanted(
    task: TokenClassification, aggregation: Any, entities: list[tuple[str, str]]
) -> None:
    tags = ["B-PER", "I-LOC", "O", "B-LOC"]
    assert tagged(task, "Annalena met Bob", tags, aggregation=aggregation) == entities


def test_average_and_max_weigh_a_words_tokens(task: TokenClassification) -> None:
    logits = np.log(np.array([[0.05, 0.45, 0.4, 0.05, 0.05], [0.01, 0.02, 0.01, 0.95, 0.01]], np.float32))
    for aggregation, label, score in (("first", "PER", 0.45), ("average", "LOC", 0.5), ("max", "LOC", 0.95)):
        options = TagOptions(aggregation)  # type: ignore[arg-type]
        encoded = encode(task, "Bern", options)
        (entity,) = task.decode(encoded, outputs_of(encoded, logits), options).entities
        assert (entity.label, entity.text) == (label, "Bern")
        assert entity.score == pytest.approx(score, abs=1e-5)


def test_labels_that_are_left_out_can_be_chosen(task: TokenClassification) -> None:
    tags = ["B-PER", "O", "B-LOC"]
    assert tagged(task, "Anna met Bob", tags, ignored=("PER",)) == [("O", "met"), ("LOC", "Bob")]
    assert tagged(task, "Anna met Bob", tags, aggregation="none", ignored=("B-LOC", "O")) == [("B-PER", "Anna")]
    assert len(tagged(task, "Anna met Bob", tags, ignored=())) == 3


# --- words in tokenizers that know only blanks


def test_signs_and_ideographs_end_a_word_where_the_tokenizer_does_not() -> None:
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    task = TokenClassification(metaspace(), labels)
    tags = ["B-PER", *["O"] * 4, "O", "B-LOC", "O", "I-LOC", "B-LOC", "I-LOC"]
    # ▁ A n n a , ▁ 東 京 大 阪: the first of the word's tokens, an empty one, has its label
    assert tagged(task, "Anna, 東京大阪", tags) == [("PER", "Anna"), ("LOC", "東京"), ("LOC", "大阪")]


@given(st.text("abcXY ,.東京é\n\t", min_size=1, max_size=40).filter(str.strip))
def test_every_word_stands_in_the_text_and_they_do_not_overlap(text: str) -> None:
    task = TokenClassification(metaspace(), ("A", "B"))
    encoded = encode(task, text)
    tokens = encoded.state.tokens
    words = task.words(tokens, len(tokens))
    assert [number for word in words for number in word] == list(range(len(tokens)))
    numbers = np.random.default_rng(len(text)).integers(0, 2, len(tokens))
    last = 0
    for entity in task.decode(encoded, outputs_of(encoded, logits_for(numbers, 2)), TagOptions()).entities:
        assert last <= entity.start < entity.end
        assert entity.text == text[entity.start : entity.end] == entity.text.strip()
        last = entity.end


# --- long texts


@given(st.lists(st.sampled_from(WORDS[5:]).filter(lambda word: "#" not in word), min_size=1, max_size=60), st.integers(0, 9))
def test_windows_change_nothing_about_what_a_model_says_of_each_token(words: list[str], stride: int) -> None:
    text = " ".join(words)
    numbers = np.random.default_rng(len(words)).integers(0, len(LABELS), len(words))
    whole, cut = (TokenClassification(wordpiece(size), LABELS) for size in (512, 12))
    answers = []
    for task in (whole, cut):
        encoded = encode(task, text, TagOptions(stride=stride))
        assert all(row.num_tokens <= 512 for row in encoded.rows)
        answers.append(task.decode(encoded, outputs_of(encoded, logits_for(numbers)), TagOptions()).entities)
    assert answers[0] == answers[1]


def test_a_token_counts_in_the_window_where_it_has_most_context() -> None:
    task = TokenClassification(wordpiece(8), LABELS)  # six tokens of the text in each row
    encoded = encode(task, "met " * 10, TagOptions(stride=99))  # half of them are shared at most
    assert [(window.start, window.stop) for window in encoded.state.windows] == [(0, 6), (3, 9), (6, 10)]
    outputs = [{"logits": np.full((row.num_tokens, 5), float(number))} for number, row in enumerate(encoded.rows)]
    assert encoded.state.logits(outputs)[:, 0].tolist() == [0] * 4 + [1] * 3 + [2] * 3


def test_a_long_text_is_cut_or_refused_where_that_is_wanted() -> None:
    task = TokenClassification(wordpiece(8), LABELS)
    cut = encode(task, "met " * 10, TagOptions(truncation="truncate"))
    assert (len(cut.rows), cut.truncated, cut.num_tokens) == (1, True, 8)
    (error,) = task.encode([TagItem("met " * 10)], TagOptions(truncation="error"))
    assert isinstance(error, TooLarge)
    assert not encode(task, "met " * 6, TagOptions(truncation="error")).truncated


def test_a_text_that_cannot_be_read_is_an_error_in_its_place(task: TokenClassification) -> None:
    error, good = task.encode([TagItem(" "), TagItem("met")], TagOptions())
    assert isinstance(error, InvalidInput)
    assert isinstance(good, Encoded)


# --- comparing answers


def golden(task: TokenClassification, now: np.ndarray, before: Sequence[Entity]) -> str:
    encoded = encode(task, "Anna met Bob")
    expected = {"entities": json.loads(json.dumps([_fields(entity) for entity in before]))}
    return task.golden_difference(encoded, outputs_of(encoded, now), expected, 0.02)


def _fields(entity: Entity) -> dict[str, Any]:
    return {name: getattr(entity, name) for name in ("label", "text", "start", "end", "score")}


def test_golden_answers_may_differ_only_by_rounding_and_ties(task: TokenClassification) -> None:
    sure = logits_for([1, 0, 3])
    encoded = encode(task, "Anna met Bob")
    before = task.decode(encoded, outputs_of(encoded, sure), TagOptions()).entities
    assert golden(task, sure, before) == ""
    assert "no more" in golden(task, logits_for([0, 0, 3]), before)
    assert "is LOC now" in golden(task, logits_for([1, 3, 3]), before)
    assert "scores" in golden(task, logits_for([1, 0, 3], sure=2.0), before)
    tied = sure.copy()
    tied[2] = [8.99, 0, 0, 9.0, 0]
    after = tied.copy()
    after[2] = [9.0, 0, 0, 8.99, 0]
    before = task.decode(encoded, outputs_of(encoded, tied), TagOptions()).entities
    assert golden(task, after, before) == ""


def test_a_decision_is_the_surest_entity_and_the_same_where_all_spans_are(task: TokenClassification) -> None:
    encoded = encode(task, "Anna met Bob")

    def answer(numbers: Sequence[int]) -> Any:
        return task.decode(encoded, outputs_of(encoded, logits_for(numbers)), TagOptions())

    decision = task.decision(answer([1, 0, 0]), TagOptions())
    assert decision is not None
    assert decision.label == "PER"
    assert task.decision(answer([0, 0, 0]), TagOptions()) is None
    assert task.same_decision(answer([1, 0, 3]), answer([2, 0, 4]), TagOptions())
    assert not task.same_decision(answer([1, 0, 3]), answer([1, 0, 0]), TagOptions())


# --- explanations


def test_what_is_explained_is_a_label_where_it_is_likeliest(task: TokenClassification) -> None:
    item = TagItem("Anna met Bob")
    encoded = encode(task, item.text)
    logits = logits_for([1, 0, 3], sure=3.0)
    logits[2, 3] = 5.0
    outputs = outputs_of(encoded, logits)
    passage = task.passage(item, encoded, outputs, None)
    assert passage.target == "LOC"
    assert [word.text for word in passage.words] == ["Anna", "met", "Bob"]
    assert passage.log_odds(outputs[0]) == pytest.approx(float(log_odds(logits[2:3].astype(np.float64), [3, 4])[0]), abs=1e-4)
    hidden = passage.without(np.array([False, True, True]))
    assert hidden.num_tokens == encoded.rows[0].num_tokens
    assert task.passage(item, encoded, outputs, "B-PER").target == "B-PER"


def test_an_unknown_label_and_a_text_without_an_entity_are_not_explained(task: TokenClassification) -> None:
    item = TagItem("Anna met Bob")
    encoded = encode(task, item.text)
    outputs = outputs_of(encoded, logits_for([0, 0, 0]))
    with pytest.raises(InvalidInput, match="no entity"):
        task.passage(item, encoded, outputs, None)
    with pytest.raises(InvalidInput, match="it knows O, PER, LOC"):
        task.passage(item, encoded, outputs, "ORG")
