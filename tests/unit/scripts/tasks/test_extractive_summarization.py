"""Documents and summaries are read, sentences labelled by what a summary says of them, figures beside those of the lead."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.data import Record
from app.tasks.extractive_summarization.task import Sentence, Summary, SummaryItem
from scripts.tasks.extractive_summarization import SummarizationTraining, Target, parse_correction
from scripts.tasks.heads import IGNORED
from scripts.tasks.spec import Prepared, TrainingRow
from scripts.training.columns import Columns
from scripts.training.data import Example
from scripts.training.evaluation import Predictions
from scripts.training.recipe import Recipe, recipe_of
from tests.support.tiny_model import MAX_TOKENS, tiny_tokenizer

TASK = SummarizationTraining()
DOCUMENT = "Rain fell on the town. The council closed the market hall. Nobody was there. Forty traders move by March."
REFERENCE = ("The market hall is closed.", "Forty traders move by March.")
USUAL = {"usual_words": 10.0}


def example(text: str = DOCUMENT, reference: tuple[str, ...] = REFERENCE, source: str = "news") -> Example:
    return Example(SummaryItem(text), Target(reference), source, "news:1")


def summary(*texts: str) -> Summary:
    return Summary(" ".join(texts), [Sentence(text, DOCUMENT.find(text), 0, 0.5) for text in texts])


def prepare(*rows: dict[str, Any], **fields: Any) -> Prepared:
    records = {"news": [Record(f"news:{number}", row) for number, row in enumerate(rows)]}
    return TASK.prepare(Recipe(data=["news"], split=0.5, **{"max_bad_share": 0.5, **fields}), records)


# reading


@pytest.mark.parametrize(("text", "reference"), [("text", "summary"), ("article", "highlights"), ("document", "target")])
def test_names_that_everybody_uses_are_guessed(text: str, reference: str) -> None:
    row = {text: DOCUMENT, reference: "One.\nTwo.", "id": 3}
    prepared = prepare(row, {**row, text: "Other."})
    (one,) = prepared.dataset.train
    assert one.target == Target(("One.", "Two."))
    assert f"{text!r}" in prepared.notes[0]


def test_the_recipe_overrules_the_guess_and_a_wrong_name_is_told() -> None:
    row = {"text": "a", "story": DOCUMENT, "tldr": "b"}
    prepared = prepare(row, {**row, "story": "Other."}, text_column="story", label_column="tldr")
    assert {entry.item.text for entry in [*prepared.dataset.train, *prepared.dataset.validation]} == {DOCUMENT, "Other."}
    with pytest.raises(InvalidSettings, match=r"which column holds the summary\? The data has 'story', 'gist'"):
        prepare({"text": "a", "story": DOCUMENT, "gist": "b"})
    with pytest.raises(InvalidSettings, match=r"--text-column: .* has no column 'novel'; it has text, story, tldr"):
        prepare(row, row, text_column="novel", label_column="tldr")


def test_what_cannot_be_used_is_told() -> None:
    good = {"text": DOCUMENT, "summary": "One."}
    rows = [good, {**good, "text": "b"}, {**good, "summary": " "}, {**good, "text": 3}, {**good, "text": "\ud800"}]
    broken = prepare(*rows, max_bad_share=0.7).dataset.broken
    assert [entry.why for entry in broken] == ["no text in column 'summary'", "no text in column 'text'", "not valid Unicode"]


# labels


def test_a_sentence_is_labelled_by_how_much_of_it_the_summary_says() -> None:
    (row,) = TASK.training_rows(
        [example("Rain fell. Forty traders move by April. The hall is closed.")], tiny_tokenizer(), USUAL
    )
    assert row.label == pytest.approx([0.0, (4 / 5 + 3 / 4) / 2, (4 / 4 + 2 / 3) / 2])


def test_a_source_with_longer_summaries_does_not_teach_that_every_sentence_matters() -> None:
    twice_as_long = (*REFERENCE, "Alpha beta gamma delta epsilon zeta eta theta iota kappa.")
    rows = [
        example(),
        example(source="long", reference=twice_as_long),
        example(source="short", reference=("Forty traders move.",)),
    ]
    news, long, short = TASK.training_rows(rows, tiny_tokenizer(), USUAL)
    assert max(news.label) > 0.5
    assert long.label == pytest.approx([share / 2 for share in news.label])
    assert short.label[-1] == pytest.approx((3 / 5 + 2 / 4) / 2)  # shorter summaries are not stretched


def test_the_usual_length_is_that_of_the_datas_summaries_unless_the_recipe_says_it() -> None:
    rows = [{"text": f"{index}. {DOCUMENT}", "summary": "One two. " * index} for index in (1, 2, 3, 4)]
    learned = prepare(*rows)
    mean = np.mean([len(" ".join(entry.target.sentences).split()) for entry in learned.dataset.train])
    assert learned.task_options == {"usual_words": pytest.approx(mean, abs=0.05), "language": "en"}
    said = prepare(*rows, summary_words=34.0)
    assert said.task_options == {"usual_words": 34.0, "language": "en"}
    assert "about 34 words" in said.notes[0]
    assert TASK.serving_task(tiny_tokenizer(), said.task_options)


def test_every_token_knows_its_sentence_and_how_much_of_that_is_wanted() -> None:
    short = TrainingRow(Row([2, 5, 3], [0] * 3, (0,)), [0.5])
    first = TASK.training_rows([example()], tiny_tokenizer(), USUAL)[0]
    assert len(first.label) == len(first.row.output_positions)
    assert first.row.num_tokens <= MAX_TOKENS
    made = TASK.labels([first, short], MAX_TOKENS)
    ends = [*first.row.output_positions[1:], first.row.num_tokens]
    for number, (start, end, wanted) in enumerate(zip(first.row.output_positions, ends, first.label, strict=True)):
        assert made[0, start:end].tolist() == pytest.approx(np.array([[number, wanted]] * (end - start)))
    assert (made[0, first.row.num_tokens :] == IGNORED).all()
    assert made[1, :3].tolist() == [[len(first.label), 0.5]] * 3  # numbered on through the batch
    assert (made[1, 3:] == IGNORED).all()


def test_of_later_windows_some_are_trained_on_and_the_first_always() -> None:
    text = "The film was not very good. " * 40
    several = [example(f"{text}{index}") for index in range(30)]
    rows = TASK.training_rows(several, tiny_tokenizer(), USUAL)
    first = [row for row in rows if not row.row.token_type_ids[0]]
    later = len(rows) - len(first)
    encoded = TASK.serving_task(tiny_tokenizer(), {}).encode([entry.item for entry in several], TASK.serving_options())
    all_windows = sum(len(encoding.rows) for encoding in encoded)  # type: ignore[union-attr]
    assert len(first) == 30
    assert 0.04 < later / (all_windows - 30) < 0.18
    assert rows == TASK.training_rows(several, tiny_tokenizer(), USUAL)


def test_a_crop_keeps_whole_sentences_from_the_beginning() -> None:
    row = TrainingRow(Row([2, 5, 3, 2, 6, 7, 3, 2, 8, 3], [1] * 10, (0, 3, 7)), [1.0, 0.0, 0.5])
    cut = TASK.crop(row, 8, random.Random(0))
    assert (list(cut.row.input_ids), list(cut.row.output_positions), cut.label) == ([2, 5, 3, 2, 6, 7, 3], [0, 3], [1.0, 0.0])
    assert TASK.crop(row, 2, random.Random(0)).label == [1.0]


def test_a_sentence_told_to_within_a_tenth_counts_as_right() -> None:
    made = np.full((1, 5, 2), IGNORED, np.float32)
    made[0, :2], made[0, 2:4] = [0, 0.95], [1, 0.2]
    # means of 3 and 1: told 0.95 and 0.73
    assert TASK.num_correct(np.array([[[2.0], [4.0], [0.0], [2.0], [9.0]]]), made) == (1, 2)


# figures


def test_figures_stand_beside_those_of_the_lead_and_the_oracle() -> None:
    examples = [example(), example(source="science")]
    best = summary("The council closed the market hall.", "Forty traders move by March.")
    figures = TASK.evaluate([best, summary("Rain fell on the town.")], examples, {})
    by_source = figures["by_source"]
    assert by_source["news"]["rouge1"] == by_source["news"]["oracle_rouge1"] > by_source["news"]["lead3_rouge1"]
    assert by_source["science"]["rouge1"] < by_source["science"]["lead3_rouge1"]
    assert figures["headline"]["rows"] == 2
    assert figures["headline"]["rouge1"] == pytest.approx(
        (by_source["news"]["rouge1"] + by_source["science"]["rouge1"]) / 2, abs=0.01
    )


def test_nothing_is_calibrated() -> None:
    assert TASK.calibrate(Predictions([], [], []), [], tiny_tokenizer(), {}).task_options == {}


def test_golden_requests_are_texts() -> None:
    assert TASK.golden_items(Recipe(golden=["One. Two."])) == [{"text": "One. Two."}]
    assert len(TASK.golden_items(Recipe())) >= 2


def test_the_language_decides_where_sentences_end_and_is_kept_for_serving() -> None:
    row = {"text": "Am 3. Quartal. Am Ende.", "summary": "Am 3. Quartal. Am Ende."}
    prepared = prepare(row, {**row, "text": "Andere."}, language="de")
    assert prepared.task_options["language"] == "de"
    assert prepared.dataset.train[0].target == Target(("Am 3. Quartal.", "Am Ende."))
    german = TASK.serving_task(tiny_tokenizer(), prepared.task_options)
    (encoded,) = german.encode([SummaryItem(row["text"])], TASK.serving_options())
    assert [row["text"][start:end] for start, end in encoded.state.spans] == ["Am 3. Quartal.", "Am Ende."]  # type: ignore[union-attr]


def test_a_correction_is_split_by_the_language_that_it_was_sent_with() -> None:
    record = Record("f#1", {"text": "Am 3. Quartal.", "summary": "Am 3. Quartal.", "language": "de"})
    told = parse_correction(record, "f", Columns({"text": "text", "label": "summary"}), "en")
    assert isinstance(told, Example)
    assert (told.item, told.target) == (SummaryItem("Am 3. Quartal."), Target(("Am 3. Quartal.",)))


@pytest.mark.parametrize(("language", "words"), [("german", "must be a code"), ("", "must be a code")])
def test_what_is_no_code_of_a_language_stops_before_training(language: str, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        recipe_of({"data": ["a.csv"], "task": "summarization", "language": language})
    with pytest.raises(InvalidSettings, match="language is for summarization"):
        recipe_of({"data": ["a.csv"], "language": "de"})


def test_a_sentence_is_scored_by_the_mean_of_its_tokens_and_padding_takes_no_part() -> None:
    logits = torch.tensor([[[2.0], [4.0], [-1.0]], [[0.5], [-9.0], [9.0]]], requires_grad=True)
    nothing = [IGNORED, IGNORED]
    labels = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [[2.0, 0.25], nothing, nothing]])
    loss = TASK.loss({"logits": logits}, labels)

    def entropy(logit: float, label: float) -> float:
        p = 1 / (1 + np.exp(-logit))
        return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)))

    assert loss.item() == pytest.approx((entropy(3, 1) + entropy(-1, 0) + entropy(0.5, 0.25)) / 3, abs=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[..., 0] != 0).tolist() == [[True, True, True], [True, False, False]]
