"""Options of a text that is written: what they come to with a checkpoint's own, what is refused, and what is made of tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from app.core.errors import InvalidArtefact, InvalidInput
from app.core.sequences import SamplingParams
from app.tasks.base import Encoded, Generative
from app.tasks.constraints import OutputFormat
from app.tasks.generation import GenerationOptions, SourceText
from app.tasks.text2text_generation.spec import SPEC
from app.tasks.text2text_generation.task import GenerateOptions, Text2TextGeneration
from app.tasks.text_generator import SourceReading
from app.tasks.tokenizer import Tokenizer
from tests.support.writing import EOS, PAD, generator, ids_of, metaspace_json, output

OF_A_CHECKPOINT = {"num_beams": 4, "max_new_tokens": 30, "min_new_tokens": 25, "bad_words_ids": [[PAD]], "length_penalty": 2.0}


def sampling(generation: dict[str, Any] | None = None, **options: Any) -> SamplingParams:
    return generator(generation=generation or {}).sampling(GenerationOptions(**options))


def test_greedy_is_what_nobody_says_otherwise() -> None:
    params = sampling(seed=3)
    assert params == SamplingParams(63, decoder_input_ids=(PAD,), eos_token_ids=(EOS,), seed=3)


def test_a_checkpoint_says_otherwise() -> None:
    params = sampling(OF_A_CHECKPOINT)
    assert (params.num_beams, params.max_new_tokens, params.min_new_tokens) == (4, 30, 25)
    assert (params.bad_words_ids, params.length_penalty) == (((PAD,),), 2.0)


def test_a_caller_says_otherwise_than_the_checkpoint() -> None:
    params = sampling(OF_A_CHECKPOINT, num_beams=1, max_new_tokens=5, min_new_tokens=0)
    assert (params.num_beams, params.max_new_tokens, params.min_new_tokens) == (1, 5, 0)


def test_a_form_frees_a_text_of_what_would_keep_it_from_its_end() -> None:
    own = {**OF_A_CHECKPOINT, "no_repeat_ngram_size": 3, "forced_eos_token_id": EOS, "forced_bos_token_id": 5}
    params = sampling(own, output_format=OutputFormat("regex", "a+"))
    assert params.constraint is not None
    assert (params.num_beams, params.min_new_tokens, params.no_repeat_ngram_size) == (1, 0, 0)
    assert (params.forced_eos_token_id, params.forced_bos_token_id) == (None, 5)


def test_of_what_is_told_step_by_step_there_are_no_beams() -> None:
    assert sampling(OF_A_CHECKPOINT, num_logprobs=0).num_beams == 1
    with pytest.raises(InvalidInput, match=r"^logprobs: are not told of beams, of which there are 2$"):
        sampling(num_logprobs=1, num_beams=2)


def test_a_checkpoints_least_length_gives_way_to_a_callers_most() -> None:
    assert sampling(OF_A_CHECKPOINT, max_new_tokens=5).min_new_tokens == 5


@pytest.mark.parametrize(
    ("generation", "options", "temperature", "num_beams"),
    [
        ({"do_sample": True, "temperature": 0.7}, {}, 0.7, 1),
        ({"do_sample": True}, {}, 1.0, 1),
        ({"do_sample": True, "temperature": 0.7}, {"temperature": 0.0}, 0.0, 1),
        ({"do_sample": True, "temperature": 0.7}, {"num_beams": 3}, 0.0, 3),
        ({"temperature": 0.7}, {}, 0.0, 1),
        ({"num_beams": 4}, {"temperature": 0.5}, 0.5, 1),
        ({"num_beams": 4}, {"temperature": 0.0}, 0.0, 4),
    ],
)
def test_tokens_are_drawn_where_a_temperature_or_the_checkpoint_says_so(
    generation: dict[str, Any], options: dict[str, Any], temperature: float, num_beams: int
) -> None:
    params = sampling(generation, **options)
    assert (params.temperature, params.num_beams) == (temperature, num_beams)


@pytest.mark.parametrize(
    ("generation", "options", "field"),
    [
        ({}, {"num_beams": 2, "temperature": 1.0}, "temperature"),
        ({}, {"top_k": 5}, "top_k"),
        ({}, {"top_p": 0.5, "temperature": 0.0}, "top_p"),
        ({"num_beams": 4}, {"min_p": 0.5}, "min_p"),
        ({}, {"early_stopping": True}, "early_stopping"),
        ({}, {"length_penalty": 1.5, "temperature": 1.0}, "length_penalty"),
        ({}, {"num_beams": 2, "stop": ("a",)}, "stop"),
        ({"num_beams": 4}, {"stop": ("a",)}, "stop"),
        ({}, {"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences"),
        ({}, {"num_return_sequences": 2}, "num_return_sequences"),
        ({}, {"output_format": OutputFormat("regex", "a"), "num_beams": 2}, "regex"),
        ({}, {"output_format": OutputFormat("regex", "a"), "stop": ("a",)}, "stop"),
        ({}, {"output_format": OutputFormat("regex", "a"), "min_new_tokens": 2}, "min_new_tokens"),
        ({}, {"output_format": OutputFormat("regex", "(")}, "regex"),
        ({}, {"max_new_tokens": 64}, "max_new_tokens"),
        ({}, {"max_new_tokens": 3, "min_new_tokens": 4}, "min_new_tokens"),
    ],
)
def test_options_that_contradict_each_other_or_the_model_are_refused(
    generation: dict[str, Any], options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        sampling(generation, **options)
    assert refused.value.field == field


def test_without_a_seed_another_text_is_drawn_each_time() -> None:
    assert len({sampling(temperature=1.0).seed for _ in range(9)}) > 1
    assert sampling(temperature=1.0, seed=7).seed == 7


def test_bad_words_are_banned_at_the_beginning_and_behind_a_blank() -> None:
    writer = generator(generation={"bad_words_ids": [[PAD]]})
    params = writer.sampling(GenerationOptions(bad_words=("good", "very bad")))
    assert params.bad_words_ids == ((PAD,), tuple(ids_of(writer, "good", False)), tuple(ids_of(writer, "very bad", False)))


def test_what_a_checkpoint_says_of_generation_is_checked_when_it_is_loaded() -> None:
    with pytest.raises(InvalidArtefact, match=r"decoder\.generation"):
        generator(generation={"num_beams": "many"})


@pytest.mark.parametrize(
    ("text", "stop", "ends"),
    [
        ("the film was good.", ("film",), True),
        ("the film was good.", ("m w",), True),
        ("the film was good.", ("bad",), False),
        ("the film", ("filmed",), False),
        ("the\nfilm", ("\n",), True),
    ],
)
def test_a_sequence_ends_with_a_stop_string_that_may_lie_across_tokens(text: str, stop: tuple[str, ...], ends: bool) -> None:
    writer = generator()
    params = writer.sampling(GenerationOptions(stop=stop))
    assert params.ends is not None
    tokens = ids_of(writer, text, ended=False)
    assert any(params.ends(tokens[: number + 1]) for number in range(len(tokens))) == ends


def test_of_a_long_text_only_the_end_is_searched_for_what_is_new() -> None:
    writer = generator(max_tokens=512)
    params = writer.sampling(GenerationOptions(stop=("bad",)))
    assert params.ends is not None
    long = ids_of(writer, "the film was very good. " * 20, ended=False)
    assert not params.ends(long)
    assert params.ends([*long, *ids_of(writer, "bad", ended=False)])
    assert not params.ends([*ids_of(writer, "bad", ended=False), *long])  # it would have ended there


# --- what was written


def written(*outputs: Any, separators: tuple[str, ...] = ("", ""), generation: Any = None, **options: Any) -> dict[str, Any]:
    writer = generator(generation=generation or {})
    encoded = Encoded([], 0, False, SourceReading(separators))
    return asdict(writer.generated(encoded, [output(*sequences) for sequences in outputs], GenerationOptions(**options)))


WRITER = generator()
FILM, GOOD = ids_of(WRITER, "the film"), ids_of(WRITER, "was good")


def test_a_text_that_the_model_ended_and_one_that_was_cut_off() -> None:
    found = {"text": "the film", "finish_reason": "stop", "num_new_tokens": 3, "has_stop_string": False, "alternatives": None}
    alone = {"text": "the film", "num_tokens": 3, "is_stopped": True, "has_stop_string": False, "scores": None}
    assert written([FILM]) == {**found, "hypotheses": (alone,)}
    assert written([FILM[:-1]])["finish_reason"] == "length"


def test_an_end_that_was_forced_at_the_limit_is_none_of_the_models_own() -> None:
    assert written([FILM], generation={"forced_eos_token_id": EOS}, max_new_tokens=3)["finish_reason"] == "length"
    assert written([FILM], generation={"forced_eos_token_id": EOS}, max_new_tokens=4)["finish_reason"] == "stop"


def test_a_stop_string_is_cut_off_and_its_tokens_are_counted() -> None:
    found = written([FILM[:-1]], stop=("fil",))
    assert (found["text"], found["finish_reason"], found["num_new_tokens"]) == ("the ", "stop", 2)


def test_beams_give_several_texts_of_which_the_others_are_alternatives() -> None:
    found = written([FILM, GOOD], num_beams=2, num_return_sequences=2)
    assert (found["text"], found["alternatives"]) == ("the film", ("was good",))


def test_texts_that_are_drawn_come_in_rows_of_their_own() -> None:
    found = written([FILM], [GOOD], [GOOD[:-1]], [FILM], separators=("", "|", ""), temperature=1.0, num_return_sequences=2)
    assert (found["text"], found["alternatives"]) == ("the film|was good", ("was good|the film",))
    assert (found["finish_reason"], found["num_new_tokens"]) == ("length", 5)


def test_nothing_written_is_an_empty_text() -> None:
    assert written([[]])["text"] == ""


# --- a task


def task(max_tokens: int = 32, **options: Any) -> Text2TextGeneration:
    return Text2TextGeneration(generator(max_tokens), **options)


def test_a_task_that_writes_is_built_with_its_models_decoder() -> None:
    tokenizer = Tokenizer(metaspace_json(), 32)
    built = SPEC.build(tokenizer, {"prefix": "the "}, WRITER.decoder)
    assert isinstance(built, Generative)
    with pytest.raises(InvalidArtefact, match="a model for text2text-generation has a decoder"):
        SPEC.build(tokenizer, {})


def test_a_prefix_stands_before_each_text() -> None:
    (item,) = task(prefix="the ").encode([SourceText("film")], GenerateOptions())
    assert isinstance(item, Encoded)
    assert list(item.rows[0].input_ids) == ids_of(WRITER, "the film")
    with pytest.raises(InvalidArtefact, match="leaves no room"):
        task(prefix="the " * 40)


def test_several_texts_are_drawn_from_as_many_rows() -> None:
    (item,) = task().encode([SourceText("film")], GenerateOptions(temperature=1.0, num_return_sequences=3))
    assert isinstance(item, Encoded)
    assert len(item.rows) == 3
    (item,) = task().encode([SourceText("film")], GenerateOptions(num_beams=3, num_return_sequences=3))
    assert isinstance(item, Encoded)
    assert len(item.rows) == 1


def test_a_long_text_is_refused_or_cut() -> None:
    (refused,) = task(8).encode([SourceText("the film was good " * 9)], GenerateOptions())
    assert str(refused) == 'the text has 37 tokens; the model reads at most 7; send it with "truncation": "truncate"'
    (cut,) = task(8).encode([SourceText("the film was good " * 9)], GenerateOptions(truncation="truncate"))
    assert isinstance(cut, Encoded)
    assert (len(cut.rows), cut.rows[0].num_tokens, cut.truncated) == (1, 8, True)


def test_golden_answers_may_differ_where_a_tie_may_have_been_decided_otherwise() -> None:
    encoded = Encoded([], 0, False, SourceReading(("", "")))
    published = ids_of(WRITER, "the film was very very good.")
    rows = [{"token_ids": published, "gaps": [0.1] * len(published)}]
    expected = {"text": "the film was very very good.", "rows": rows}
    tokens = ids_of(WRITER, "the film was very good.")
    assert task().golden_difference(encoded, [output(published)], expected, tolerance=0.01) == ""
    assert task().golden_difference(encoded, [output(tokens)], expected, tolerance=0.2) == ""
    difference = task().golden_difference(encoded, [output(tokens)], expected, tolerance=0.01)
    assert difference == "'the film was very good.' is written, was 'the film was very very good.'"
    assert task().golden_options().max_new_tokens == 20
    del expected["rows"]  # as older versions have it
    assert task().golden_difference(encoded, [output(published)], expected, tolerance=0.2) == ""
    assert task().golden_difference(encoded, [output(tokens)], expected, tolerance=0.2) == difference
