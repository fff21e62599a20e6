"""What the three tasks that write say of a checkpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from scripts.tasks import published_names, task_names, training_task
from scripts.tasks.abstractive_summarization import SPEC as SUMMARIES
from scripts.tasks.spec import TrainingTask
from scripts.tasks.text2text_generation import SPEC as TEXTS
from scripts.tasks.translation import SPEC as TRANSLATION
from tests.support.tiny_translators import tokenizer_of, writer_options

NAMES = ("translation", "abstractive-summarization", "text2text-generation")
T5_PARAMS = {
    "summarization": {"prefix": "summarize: ", "num_beams": 4},
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
}


def test_they_are_published_and_trained() -> None:
    assert set(NAMES) <= set(published_names())
    assert set(NAMES) <= set(task_names())
    assert [training_task(name).name for name in NAMES] == [*NAMES]


@pytest.mark.parametrize(
    ("config", "tag", "expected"),
    [
        (transformers.MarianConfig(), "", TRANSLATION),
        (transformers.M2M100Config(), "", TRANSLATION),
        (transformers.MBartConfig(), "", TRANSLATION),
        (transformers.PegasusConfig(), "", SUMMARIES),
        (transformers.BartConfig(), "summarization", SUMMARIES),
        (transformers.BartConfig(task_specific_params={"summarization_cnn": {}}), "", SUMMARIES),
        (transformers.T5Config(), "translation", TRANSLATION),
        (transformers.T5Config(task_specific_params=T5_PARAMS), "", None),
        (transformers.BartConfig(), "", None),
    ],
)
def test_a_family_a_card_or_its_parameters_say_what_a_model_is_for(
    config: Any, tag: str, expected: TrainingTask | None
) -> None:
    signs = {training.name for training in (TRANSLATION, SUMMARIES, TEXTS) if training.head_sign(config, tag)}
    assert signs == ({expected.name} if expected is not None else set())
    assert not TEXTS.is_unlikely_head(config)


def test_t5_translates_and_summarizes_behind_the_prefixes_of_its_parameters() -> None:
    config = transformers.T5Config(task_specific_params=T5_PARAMS)
    tokenizer = tokenizer_of("T5TokenizerFast", ["<pad>"])
    options, _ = writer_options(TRANSLATION, config, tokenizer)
    assert options == {
        "sources": ["en"], "targets": ["de", "fr"],
        "prefixes": {"en de": "translate English to German: ", "en fr": "translate English to French: "},
    }  # fmt: skip
    assert writer_options(SUMMARIES, config, tokenizer)[0] == {"prefix": "summarize: "}
    assert writer_options(TEXTS, config, tokenizer) == ({}, [])
    _, notes = writer_options(TRANSLATION, transformers.T5Config(), tokenizer)
    assert notes == ["which languages it is for is not known: requests cannot name any"]


def test_the_sign_for_a_line_s_end_is_told_where_the_vocabulary_has_it() -> None:
    options, _ = writer_options(SUMMARIES, transformers.PegasusConfig(), tokenizer_of("PegasusTokenizerFast", ["<n>"]))
    assert options == {"newline": "<n>"}


def test_golden_texts_are_the_recipe_s_or_a_few_sentences() -> None:
    assert TEXTS.golden_items(SimpleNamespace(golden=["a"])) == [{"text": "a"}]  # type: ignore[arg-type]
    assert len(TEXTS.golden_items(SimpleNamespace(golden=[]))) == 4  # type: ignore[arg-type]
