"""Text becomes windows that lose no token and know where each one came from."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidArtefact
from app.tasks.tokenizer import Tokenizer, encodable
from tests.support.tiny_model import VOCABULARY, WORDS, tiny_tokenizer, tokenizer_json

CLS, SEP = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]
FREE = [word for word in WORDS if not word.startswith("##")]

texts = st.lists(st.sampled_from(FREE), min_size=1, max_size=60).map(" ".join)


def ids_of(text: str) -> list[int]:
    return [VOCABULARY[word] for word in text.split()]


def test_a_text_becomes_its_tokens_between_the_special_ones() -> None:
    ((window,),) = tiny_tokenizer().windows(["The films was GOOD"])
    expected = ("[CLS]", "the", "film", "##s", "was", "good", "[SEP]")
    assert window.input_ids == [VOCABULARY[token] for token in expected]
    assert window.token_type_ids == [0] * 7


def test_offsets_cut_the_tokens_out_of_the_text() -> None:
    text = "The  Films, was GOOD"
    ((window,),) = tiny_tokenizer().windows([text])
    pieces = [text[start:end] for start, end in window.offsets]
    assert pieces == ["", "The", "Film", "s", ",", "was", "GOOD", ""]
    assert window.sequence_ids == [None, 0, 0, 0, 0, 0, 0, None]


def test_a_pair_knows_which_sequence_each_token_belongs_to() -> None:
    ((window,),) = tiny_tokenizer().windows([("good film", "bad")])
    assert window.token_type_ids == [0, 0, 0, 0, 1, 1]
    assert window.sequence_ids == [None, 0, 0, None, 1, None]


def test_the_token_for_what_the_vocabulary_lacks_is_known_where_there_is_one() -> None:
    definition = json.loads(tokenizer_json())
    assert tiny_tokenizer().unknown_id() == VOCABULARY["[UNK]"]
    pieces = {"type": "Unigram", "unk_id": 1, "vocab": [["a", -1.0], ["<unk>", -2.0]]}
    assert Tokenizer(json.dumps(definition | {"model": pieces}), 32).unknown_id() == 1
    of_bytes = {"type": "BPE", "unk_token": None, "vocab": {"a": 0}, "merges": []}
    assert Tokenizer(json.dumps(definition | {"model": of_bytes}), 32).unknown_id() is None


@given(texts, st.integers(8, 20), st.integers(0, 5))
def test_windows_read_every_token_and_share_exactly_the_stride(text: str, max_tokens: int, stride: int) -> None:
    (windows,) = tiny_tokenizer().with_windows(max_tokens, stride).windows([text])
    inner = [list(window.input_ids[1:-1]) for window in windows]
    assert all(window.input_ids[0] == CLS and window.input_ids[-1] == SEP for window in windows)
    assert all(len(window.input_ids) <= max_tokens for window in windows)
    rebuilt = inner[0]
    for before, tokens in pairwise(inner):
        assert before[len(before) - stride :] == tokens[:stride]
        rebuilt = rebuilt + tokens[stride:]
    assert rebuilt == ids_of(text)


@given(texts, st.integers(8, 20))
def test_offsets_of_later_windows_still_point_into_the_text(text: str, max_tokens: int) -> None:
    (windows,) = tiny_tokenizer().with_windows(max_tokens, 2).windows([text])
    for window in windows:
        pieces = [text[start:end] for start, end in window.offsets[1:-1]]
        assert [VOCABULARY[piece] for piece in pieces] == window.input_ids[1:-1]


def test_only_second_repeats_the_first_sequence_in_every_window() -> None:
    tokenizer = tiny_tokenizer().with_windows(10, 2, only_second=True)
    (windows,) = tokenizer.windows([("very good", "a the film was not bad . a the film")])
    assert len(windows) > 1
    for window in windows:
        assert window.input_ids[:4] == [CLS, VOCABULARY["very"], VOCABULARY["good"], SEP]
    second = [i for window in windows for i, of in zip(window.offsets, window.sequence_ids, strict=True) if of == 1]
    assert (min(second), max(second)) == ((0, 1), (31, 35))


@given(st.lists(st.one_of(texts, st.tuples(texts, texts)), min_size=1, max_size=5))
def test_a_batch_gives_what_each_text_gives_alone(batch: list[str | tuple[str, str]]) -> None:
    tokenizer = tiny_tokenizer(16)
    together = tokenizer.windows(batch)
    alone = [tokenizer.windows([entry])[0] for entry in batch]
    assert [[w.input_ids for w in entry] for entry in together] == [[w.input_ids for w in entry] for entry in alone]
    assert [[w.token_type_ids for w in entry] for entry in together] == [[w.token_type_ids for w in entry] for entry in alone]


def test_padding_and_truncation_of_the_definition_are_reset() -> None:
    definition = json.loads(tokenizer_json())
    definition["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    definition["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    tokenizer = Tokenizer(json.dumps(definition), max_tokens=32)
    ((window,),) = tokenizer.windows(["a good film was not bad"])
    assert len(window.input_ids) == 8
    first, second = tokenizer.windows(["good", "a bad film"])
    assert (len(first[0].input_ids), len(second[0].input_ids)) == (3, 5)


def test_another_window_length_leaves_the_first_tokenizer_as_it_was() -> None:
    tokenizer = tiny_tokenizer(16)
    tokenizer.with_windows(8, 2)
    ((window,),) = tokenizer.windows(["good " * 10])
    assert len(window.input_ids) == 12


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = tiny_tokenizer(12)
    batch = [" ".join(FREE[i % len(FREE)] for i in range(n)) for n in range(1, 40)]
    expected = [[w.input_ids for w in windows] for windows in tokenizer.windows(batch)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: tokenizer.windows(batch), range(16)))
    assert all([[w.input_ids for w in windows] for windows in result] == expected for result in results)


@pytest.mark.xfail(strict=True, reason="tokenizers combines the windows of both texts: their number grows with the square")
def test_the_windows_of_a_pair_grow_with_its_length_not_with_its_square() -> None:
    tokenizer = tiny_tokenizer(32)
    counts = [len(tokenizer.windows([("good " * n, "bad " * n)])[0]) for n in (200, 400)]
    assert counts[1] <= 3 * counts[0]


@pytest.mark.parametrize("definition", ["", "{", "{}", "null", '{"model": {"type": "Nothing"}}'])
def test_a_broken_definition_is_an_invalid_artefact(definition: str) -> None:
    with pytest.raises(InvalidArtefact, match="the tokenizer cannot be read"):
        Tokenizer(definition, 32)


def test_a_definition_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json", 32)
    assert tokenizer.windows(["good"])[0][0].input_ids == [CLS, VOCABULARY["good"], SEP]


def test_a_missing_file_is_an_invalid_artefact(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtefact, match="cannot be read: No such file"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", 32)


def test_a_file_that_is_not_utf8_is_an_invalid_artefact(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InvalidArtefact):
        Tokenizer.from_file(tmp_path / "tokenizer.json", 32)


def test_special_tokens_are_counted_for_texts_and_pairs() -> None:
    tokenizer = tiny_tokenizer()
    assert (tokenizer.num_special_tokens(pair=False), tokenizer.num_special_tokens(pair=True)) == (2, 3)


def test_a_token_is_found_by_its_text_or_not_at_all() -> None:
    assert tiny_tokenizer().token_id("good") == VOCABULARY["good"]
    assert tiny_tokenizer().token_id("excellent") is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_that_can_be_written_down_is_encodable(text: str) -> None:
    assert encodable(text)


@given(st.text(), st.characters(categories=["Cs"]), st.text())
def test_a_lone_surrogate_is_not_encodable(before: str, surrogate: str, after: str) -> None:
    assert not encodable(before + surrogate + after)


@pytest.mark.parametrize("pair", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_long_text_alone_holds_no_other_thread_up(pair: bool) -> None:
    text = "[{" * 300_000  # long enough that a busy machine, which stops either thread for a while, decides nothing
    tokenizer = tiny_tokenizer()
    with ThreadPoolExecutor(1) as threads:
        moments = [time.perf_counter()]
        tokenizing = threads.submit(tokenizer.windows, [("good", text) if pair else text])
        while wait([tokenizing], timeout=0.001).not_done:
            moments.append(time.perf_counter())
        assert tokenizing.result()
    longest = max(later - earlier for earlier, later in pairwise(moments))
    assert longest < (moments[-1] - moments[0]) / 2


def test_a_long_text_is_read_as_a_short_one_is() -> None:
    text = "good film " * 200
    (alone,) = tiny_tokenizer().windows([text])
    parts = [window.input_ids for window in tiny_tokenizer().windows(["good film " * 50])[0]]
    assert [window.input_ids for window in alone[: len(parts) - 1]] == parts[:-1]
