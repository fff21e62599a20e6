"""A document that fits is read whole; of a longer one each piece of whole sentences is summed up."""

from __future__ import annotations

from typing import Any

import pytest

from app.tasks.abstractive_summarization.task import AbstractiveSummarization, WrittenSummaryOptions
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.task import SummaryItem
from tests.support.writing import generator, ids_of, output

WRITER = generator(12)
LONG = "The film was good. The film was bad. The film was very good. the film was not bad."


def encoded(text: str, prefix: str = "", **options: Any) -> Any:
    (item,) = AbstractiveSummarization(WRITER, prefix=prefix).encode([SummaryItem(text)], WrittenSummaryOptions(**options))
    return item


def test_a_short_document_is_one_row() -> None:
    item = encoded("the film was good.", prefix="bad ")
    assert [list(row.input_ids) for row in item.rows] == [ids_of(WRITER, "bad the film was good.")]


@pytest.mark.parametrize("prefix", ["", "bad "])
def test_a_long_one_is_read_in_pieces_of_whole_sentences(prefix: str) -> None:
    item = encoded(LONG, prefix)
    assert isinstance(item, Encoded)
    assert not item.truncated
    assert all(row.num_tokens <= 12 for row in item.rows)
    texts = [WRITER.text_of(row.input_ids) for row in item.rows]
    assert all(text.startswith(prefix) and text.endswith(".") for text in texts)
    assert " ".join(text.removeprefix(prefix) for text in texts) == LONG
    assert 1 < len(texts) <= LONG.count(".")


def test_summaries_of_the_pieces_are_joined() -> None:
    task = AbstractiveSummarization(WRITER)
    item = encoded(LONG)
    answer = task.decode(item, [output(ids_of(WRITER, "good.")) for _ in item.rows], WrittenSummaryOptions())
    assert answer.text == " ".join(["good."] * len(item.rows))


def test_a_long_one_may_be_cut_or_refused() -> None:
    cut = encoded(LONG, truncation="truncate")
    assert (len(cut.rows), cut.truncated, cut.rows[0].num_tokens) == (1, True, 12)
    refused = encoded(LONG, truncation="error")
    assert 'send it with "truncation": "window" or "truncate"' in str(refused)


def test_a_sentence_longer_than_the_model_reads_is_read_in_pieces() -> None:
    text = " ".join(["the film was very good"] * 5)
    item = encoded(text, prefix="bad ")
    assert all(row.num_tokens <= 12 and WRITER.text_of(row.input_ids).startswith("bad ") for row in item.rows)
    assert sum(row.num_tokens - 2 for row in item.rows) == len(ids_of(WRITER, text, ended=False))


def test_what_the_model_writes_for_the_end_of_a_line_is_one() -> None:
    task = AbstractiveSummarization(WRITER, newline="very")
    item, written = encoded("the film was good."), output(ids_of(WRITER, "the film very good."))
    assert task.decode(item, [written], WrittenSummaryOptions()).text == "the film \n good."
    (detokenizer,) = task.detokenizers(item, WrittenSummaryOptions())
    told = detokenizer.push(0, ids_of(WRITER, "the film very good."), True)
    assert told + detokenizer.end() == "the film \n good."
    assert AbstractiveSummarization(WRITER).decode(item, [written], WrittenSummaryOptions()).text == "the film very good."
