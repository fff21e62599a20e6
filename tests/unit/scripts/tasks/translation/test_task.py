"""Translation offline: columns of languages, how sources are read in training, what a base model knows of languages."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import Decoder
from app.data import Record
from app.tasks.generation import SourceText
from scripts.tasks.generation.task import written
from scripts.tasks.spec import Prepared
from scripts.tasks.translation import SPEC as TASK
from scripts.training.columns import TableSample
from scripts.training.data import Example
from scripts.training.recipe import Recipe, recipe_of
from scripts.training.records import read_records
from scripts.training.seq2seq.tokenizer import PairTokenizer
from tests.support.tiny_translators import tokenizer_of, writer_options
from tests.support.tiny_writer import EOS, unigram_json

DECODER = Decoder(
    file="decoder.onnx", num_layers=1, num_heads=1, head_size=8, vocab_size=70, max_length=30, eos_token_ids=(EOS,)
)
PAIRS = [
    {"en": f"The film number {number} was good.", "de": f"Der Film Nummer {number} war gut und nicht alt."}
    for number in range(20)
]


def prepare(path: Path, rows: list[dict[str, Any]], **keys: Any) -> Prepared:
    source = str(path / "data.jsonl")
    Path(source).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = Recipe(data=[source], task="translation", **keys)
    return TASK.prepare(recipe, {source: read_records(source)})


def test_languages_of_the_columns_are_the_models(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, PAIRS)
    assert prepared.task_options == {"source": "en", "target": "de", "by_sentence": True}
    assert prepared.columns == {"text": "en", "label": "de"}
    assert prepared.notes[0] == "source from column 'en', target from 'de'"
    assert prepared.dataset.train[0].target.startswith("Der Film")


def test_texts_of_several_sentences_are_translated_together(tmp_path: Path) -> None:
    rows = [{"en": f"{row['en']} It was old.", "de": f"{row['de']} Er war alt."} for row in PAIRS]
    assert prepare(tmp_path, rows).task_options["by_sentence"] is False


def test_a_prefix_stands_before_each_source(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, PAIRS, source_prefix="film, ")
    assert prepared.task_options["prefixes"] == {"en de": "film, "}
    tokenizer = PairTokenizer(unigram_json(), 64, DECODER)
    row = TASK.training_rows(prepared.dataset.train[:1], tokenizer, prepared.task_options)[0]
    assert tokenizer.decode(row.row.input_ids).startswith("film,")


def test_a_pair_is_one_row_and_longer_ones_are_left_out() -> None:
    tokenizer = PairTokenizer(unigram_json(), 16, DECODER)
    short, long = "It was old. It was new.", "it was the old film. " * 8
    examples = [Example(SourceText(text), "alt", "a", "a:1") for text in (short, long)]
    (row,) = TASK.training_rows(examples, tokenizer, {"source": "en", "target": "de", "by_sentence": True})
    assert tokenizer.decode(row.row.input_ids, skip_special_tokens=True).count("it was") == 0
    assert row.row.num_tokens <= 16
    assert row.label[-1] == EOS


def test_two_columns_of_languages_say_the_task() -> None:
    def table(*names: str) -> TableSample:
        rows = [{name: f"{name} is a text of words {number}" for name in names} for number in range(9)]
        return TableSample.of([Record(f"a:{number}", row) for number, row in enumerate(rows)])

    assert TASK.recognizes(Recipe(), table("en", "de")) > 0.9
    assert TASK.recognizes(Recipe(), table("text", "summary")) == 0
    assert TASK.recognizes(Recipe(), table("en", "de", "fr")) == 0


NLLB = {
    "sources": ["eng_Latn", "deu_Latn"],
    "targets": ["eng_Latn", "deu_Latn"],
    "language_tokens": {"eng_Latn": "▁the", "deu_Latn": "▁film"},
    "source_place": "first",
    "target_place": "first_written",
}


def test_languages_are_called_as_the_base_model_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TASK), "writer_options", lambda self, config, tokenizer: (NLLB, []))
    start: Any = SimpleNamespace(writer=SimpleNamespace(original=None))
    options = TASK.base_options(start, None, {"source": "en", "target": "de", "by_sentence": True})  # type: ignore[attr-defined]
    assert (options["source"], options["target"]) == ("eng_Latn", "deu_Latn")
    tokenizer = PairTokenizer(unigram_json(), 64, DECODER)
    (row,) = TASK.training_rows([Example(SourceText("old"), "new", "a", "a:1")], tokenizer, options)
    assert row.row.input_ids[0] == tokenizer.token_id("▁the")
    assert row.label[0] == tokenizer.token_id("▁film")
    with pytest.raises(InvalidSettings, match=r"does not know French \(fr\); it knows eng_Latn, deu_Latn"):
        TASK.base_options(start, None, {"source": "fr", "target": "de"})  # type: ignore[attr-defined]


def test_figures_are_of_the_corpus_with_intervals_and_rows_average_to_what_is_compared() -> None:
    examples = [Example(SourceText("x"), f"Der Film {number} war gut.", f"{number % 2}", "a:1") for number in range(8)]
    answers = [written(f"Der Film {number // 2} war gut.") for number in range(8)]
    figures = TASK.evaluate(answers, examples, {"target": "de"})
    assert figures["headline"].keys() == {"bleu", "chrf", "mean_chrf", "rows"}
    assert figures["by_source"].keys() == {"0", "1"}
    low, high = figures["intervals"]["mean_chrf"]
    assert low <= figures["headline"]["mean_chrf"] <= high
    assert np.mean(TASK.row_scores(answers, examples)) == pytest.approx(figures["headline"]["mean_chrf"], abs=0.01)
    assert [name for name, _ in TASK.baselines([], examples, {})] == ["the source"]


def test_a_model_from_nothing_has_defaults_of_its_own() -> None:
    recipe = recipe_of({"task": "translation", "data": ["a"], "base_model": "new"})
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup_share, recipe.label_smoothing) == (8e-4, "cosine", 0.15, 0.1)
    assert recipe_of({"task": "translation", "data": ["a"], "base_model": "new", "hidden_dropout": 0.0}).hidden_dropout == 0
    assert recipe_of({"task": "translation", "data": ["a"], "base_model": "new", "autofit": True}).schedule == "linear"


def test_keys_of_pairs_are_refused_elsewhere() -> None:
    with pytest.raises(InvalidSettings, match=r"source_column is for .*translation.*, not for text-classification"):
        recipe_of({"data": ["a"], "source_column": "x"})


def test_nllb_reads_the_source_first_and_in_its_older_form_last() -> None:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "deu_Latn", "eng_Latn", "abc_def"]
    options, notes = writer_options(TASK, transformers.M2M100Config(), tokenizer_of("NllbTokenizerFast", tokens))
    assert options == {
        "sources": ["deu_Latn", "eng_Latn"], "targets": ["deu_Latn", "eng_Latn"],
        "language_tokens": {"deu_Latn": "deu_Latn", "eng_Latn": "eng_Latn"}, "source_place": "first",
        "target_place": "first_written",
    }  # fmt: skip
    assert notes == ["it knows 2 languages: deu_Latn, eng_Latn"]
    old = tokenizer_of("NllbTokenizerFast", tokens, legacy_behaviour=True, init_kwargs={"src_lang": "deu_Latn"})
    options, _ = writer_options(TASK, transformers.M2M100Config(), old)
    assert (options["source_place"], options["source"]) == ("last", "deu_Latn")


def test_mbart_starts_with_the_target_and_its_successor_writes_it_first() -> None:
    tokens = ["<s>", "</s>", "en_XX", "ro_RO", "x_y"]
    config = transformers.MBartConfig(decoder_start_token_id=3)
    options, notes = writer_options(TASK, config, tokenizer_of("MBartTokenizerFast", tokens))
    assert (options["source_place"], options["target_place"], options["target"]) == ("last", "start", "ro_RO")
    assert notes[1] == "a request that names no target gets Romanian (ro_RO)"
    config = transformers.MBartConfig(decoder_start_token_id=1, forced_bos_token_id=2)
    options, _ = writer_options(TASK, config, tokenizer_of("MBart50TokenizerFast", tokens))
    assert (options["source_place"], options["target_place"], options["target"]) == ("first", "first_written", "en_XX")
