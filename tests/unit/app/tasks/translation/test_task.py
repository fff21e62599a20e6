"""Texts as sentences with their languages, and translations with what stood between them."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import InvalidArtefact, InvalidInput, TooLarge
from app.tasks.base import Encoded
from app.tasks.detokenizer import SilentDetokenizer
from app.tasks.generation import SourceText
from app.tasks.translation.task import Translation, TranslationOptions
from tests.support.writing import EOS, LANGUAGES, PAD, generator, ids_of, output

WRITER = generator()
CODES = ("eng_Latn", "deu_Latn", "fra_Latn")
TOKENS = dict(zip(CODES, LANGUAGES, strict=True))
IDS = {code: WRITER.tokenizer.token_id(token) for code, token in TOKENS.items()}
MANY = {"sources": CODES, "targets": CODES, "language_tokens": TOKENS}


def encoded(task: Translation, text: str, **options: Any) -> Encoded:
    (item,) = task.encode([SourceText(text)], TranslationOptions(**options))
    assert isinstance(item, Encoded), item
    return item


def rows(item: Encoded) -> list[list[int]]:
    return [list(row.input_ids) for row in item.rows]


def test_each_sentence_is_a_row_and_what_stands_between_them_stays() -> None:
    task = Translation(WRITER)
    item = encoded(task, " The film was bad. A good film.\n\nThe film.\n")
    assert len(item.rows) == 3
    answers = [output(ids_of(WRITER, text)) for text in ("good.", "bad.", "the film.")]
    answer = task.decode(item, answers, TranslationOptions())
    assert answer.text == " good. bad.\n\nthe film.\n"
    assert (answer.finish_reason, item.truncated) == ("stop", False)


def test_what_has_no_letters_stands_in_the_translation_as_it_is() -> None:
    task = Translation(WRITER)
    item = encoded(task, "...\n\nThe film was bad.\n***\nA good film. 👍\n")
    answer = task.decode(item, [output(ids_of(WRITER, text)) for text in ("good.", "bad.")], TranslationOptions())
    assert answer.text == "...\n\ngood.\n***\nbad. 👍\n"


@pytest.mark.parametrize("by_sentence", [True, False])
def test_a_text_without_letters_is_its_own_translation_and_no_word_of_it_is_told(by_sentence: bool) -> None:
    task = Translation(WRITER, by_sentence=by_sentence)
    item, options = encoded(task, "...\n"), TranslationOptions()
    assert task.decode(item, [output(ids_of(WRITER, "good."))], options).text == "...\n"
    (told,) = task.detokenizers(item, options)
    assert isinstance(told, SilentDetokenizer)


@pytest.mark.parametrize(("target", "text"), [("zh", "good.bad."), ("de", "good. bad.")])
def test_chinese_has_no_blank_between_sentences(target: str, text: str) -> None:
    task = Translation(WRITER, source="en", target=target)
    item = encoded(task, "The film was bad. A good film.")
    assert task.decode(item, [output(ids_of(WRITER, part)) for part in ("good.", "bad.")], TranslationOptions()).text == text


def test_a_language_without_blanks_gets_one_between_sentences() -> None:
    task = Translation(WRITER, source="zh", target="en")
    item = encoded(task, "我喜欢读书。我喜欢看电影。")
    assert item.state.separators == ["", " ", ""]


def test_a_model_for_documents_reads_as_many_sentences_as_it_can() -> None:
    task = Translation(generator(16), by_sentence=False)
    assert len(encoded(task, "The film. A good film.").rows) == 1
    assert len(encoded(task, "the film. the film.\n\nThe film.").rows) == 2
    assert len(encoded(task, "the film was very good. " * 4).rows) > 1


def test_a_long_sentence_is_read_in_pieces_cut_or_refused() -> None:
    task = Translation(generator(8))
    long = "the film was very good the film was very bad"
    assert [len(row) for row in rows(encoded(task, long))] == [8, 4]
    cut = encoded(task, long, truncation="truncate")
    assert (len(cut.rows), cut.truncated) == (1, True)
    (refused,) = task.encode([SourceText(long)], TranslationOptions(truncation="error"))
    assert isinstance(refused, TooLarge)
    assert "a sentence of the text has 10 tokens" in refused.detail


@pytest.mark.parametrize(
    ("places", "row", "start", "forced"),
    [
        ({"source_place": "first", "target_place": "first_written"}, [IDS["eng_Latn"], ..., EOS], PAD, IDS["deu_Latn"]),
        ({"source_place": "last", "target_place": "start"}, [..., EOS, IDS["eng_Latn"]], IDS["deu_Latn"], None),
        ({"target_place": "source"}, [IDS["deu_Latn"], ..., EOS], PAD, None),
        ({}, [..., EOS], PAD, None),
    ],
)
def test_languages_stand_where_each_family_has_them(
    places: dict[str, str], row: list[Any], start: int, forced: int | None
) -> None:
    """NLLB and M2M100; mBART; Marian; one pair alone."""
    task = Translation(WRITER, **MANY, **places)  # type: ignore[arg-type]
    options = {"source": "en", "target": "de"}
    place = row.index(...)
    row[place : place + 1] = ids_of(WRITER, "the film", ended=False)
    assert rows(encoded(task, "the film", **options)) == [row]
    params = task.sampling(TranslationOptions(**options))  # type: ignore[arg-type]
    assert (params.decoder_input_ids, params.forced_bos_token_id) == ((start,), forced)


def test_a_prefix_names_the_languages() -> None:
    task = Translation(WRITER, sources=["en"], targets=["de", "fr"], prefixes={"en de": "the ", "en fr": "bad "})
    assert rows(encoded(task, "film", target="de")) == [ids_of(WRITER, "the film")]
    assert rows(encoded(task, "film", target="fr")) == [ids_of(WRITER, "bad film")]
    task = Translation(WRITER, sources=["en", "de"], targets=["en", "de"], prefixes={"en de": "the "})
    (refused,) = task.encode([SourceText("film")], TranslationOptions(source="de", target="en"))
    assert str(refused) == "target: the model does not translate from de to en, only from en to de"


def test_a_language_must_be_named_where_there_are_several_and_be_one_of_them() -> None:
    task = Translation(WRITER, **MANY, source="eng_Latn", source_place="first", target_place="first_written")
    (refused,) = task.encode([SourceText("film")], TranslationOptions())
    assert str(refused) == "target: must be named: the model has several, eng_Latn, deu_Latn, fra_Latn"
    (refused,) = task.encode([SourceText("film")], TranslationOptions(target="xx"))
    assert str(refused) == "target: should be one of eng_Latn, deu_Latn, fra_Latn"
    with pytest.raises(InvalidInput, match="target"):
        task.sampling(TranslationOptions())
    with pytest.raises(InvalidInput, match="source: is not known of this model; leave it out"):
        Translation(WRITER).languages(TranslationOptions(source="en"))


def test_golden_options_name_languages_where_that_is_needed() -> None:
    task = Translation(WRITER, **MANY)
    assert task.languages(task.golden_options()) == ("eng_Latn", "fra_Latn")
    assert Translation(WRITER).golden_options().source is None


def test_a_language_whose_token_the_vocabulary_lacks_is_refused_with_the_model() -> None:
    with pytest.raises(InvalidArtefact, match="no token for 'xx'"):
        Translation(WRITER, sources=["xx"], language_tokens={"xx": "__xx__"}, source_place="first")
    with pytest.raises(InvalidArtefact, match="no token for 'en'"):
        Translation(WRITER, sources=["en"], source_place="first")


def test_a_blank_text_is_refused() -> None:
    (refused,) = Translation(WRITER).encode([SourceText(" \n")], TranslationOptions())
    assert str(refused) == "text: must not be empty"
