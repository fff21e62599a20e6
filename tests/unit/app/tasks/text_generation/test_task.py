"""A text that is continued: what is read of it, what is cut, and how its continuation begins."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.tasks.base import Encoded
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions, TextGeneration
from tests.support.writing import EOS, byte_level_json, generator, ids_of, output

TEXT = "the film was very good."


def task(**decoder: Any) -> TextGeneration:
    return TextGeneration(generator(has_encoder=False, **decoder))


def encoded(built: TextGeneration, text: str = TEXT, **options: Any) -> Encoded | HooperError:
    (found,) = built.encode([SourceText(text)], ContinueOptions(**options))
    return found


def good(found: Encoded | HooperError) -> Encoded:
    assert isinstance(found, Encoded), found
    return found


def test_a_text_is_read_with_the_special_tokens_of_the_tokenizer() -> None:
    built = task()
    found = good(encoded(built))
    assert found.rows[0].input_ids == [*ids_of(built.generator, TEXT, ended=False), EOS]
    assert (found.num_tokens, found.truncated) == (7, False)
    assert built.sampling(ContinueOptions()).decoder_input_ids == ()


def test_a_text_that_leaves_no_room_is_refused_or_loses_its_beginning() -> None:
    built = task(max_length=8)
    assert good(encoded(built, max_new_tokens=1)).num_tokens == 7
    refused = encoded(built, max_new_tokens=2)
    assert isinstance(refused, TooLarge)
    assert refused.truncations == ("truncate",)
    assert "maximum context length is 8 tokens; the text has 7 tokens, and 2 new ones are to be written" in refused.detail
    cut = good(encoded(built, max_new_tokens=4, truncation="truncate"))
    assert cut.rows[0].input_ids == [*ids_of(built.generator, TEXT, ended=False)[-3:], EOS]
    assert (cut.num_tokens, cut.truncated) == (4, True)
    assert "the text has 7 tokens, and one more is to be written" in str(encoded(task(max_length=7)))
    with pytest.raises(InvalidInput, match="at most 7"):
        built.sampling(ContinueOptions(max_new_tokens=8))


@pytest.mark.parametrize(("definition", "text", "blank"), [("", "very good", " "), (byte_level_json(), "the film", "")])
def test_a_continuation_keeps_the_blank_that_it_begins_with(definition: str, text: str, blank: str) -> None:
    built = TextGeneration(generator(definition=definition, has_encoder=False))
    found = good(encoded(built))
    written = ids_of(built.generator, text)
    options = ContinueOptions()
    answer = built.decode(found, [output(written)], options)
    assert answer.text == blank + text
    (told,) = built.detokenizers(found, options)
    pieces = [told.push(0, [token], number == len(written) - 1) for number, token in enumerate(written)]
    assert "".join([*pieces, told.end()]) == answer.text


def test_the_text_may_be_told_before_what_continues_it() -> None:
    built = task()
    options = ContinueOptions(return_full_text=True)
    (found,) = built.encode([SourceText(TEXT)], options)
    assert built.decode(good(found), [output(ids_of(built.generator, "very bad"))], options).text == f"{TEXT} very bad"


def test_texts_that_cannot_be_read_are_refused_in_their_place() -> None:
    first, second, third = task().encode([SourceText(" "), SourceText(TEXT), SourceText("\ud800")], ContinueOptions())
    assert isinstance(first, InvalidInput)
    assert isinstance(second, Encoded)
    assert isinstance(third, InvalidInput)


def test_a_model_with_an_encoder_is_none() -> None:
    with pytest.raises(InvalidArtefact, match="a model that continues a text has none"):
        TextGeneration(generator())
