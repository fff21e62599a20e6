"""A tokenizer.json that is served encodes as transformers' tokenizer does, or is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from app.core.errors import InvalidSettings
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer
from scripts.export.tokenizer_definition import definition_of

SENTENCES = ["The quick brown fox jumps over the lazy dog.", "Größe und Ärger", "今日は天気がいい", "bad films are not good"]
TEXTS = ["The film, was good!", "naïve ﬁlm", "今日は\n天気", "good\t bad 😀", "the film " * 40]


def word_piece() -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials))
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator(SENTENCES, trainer)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def metaspace() -> Backend:
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=specials, unk_token="<unk>")
    backend.train_from_iterator(SENTENCES, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[("<sep>", 4), ("<cls>", 3)],
    )
    return backend


def roberta_like() -> Backend:
    backend = byte_level()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


def sequence_like() -> Backend:
    """A post-processor of several, as newer checkpoints of Llama and Qwen have it."""
    backend = byte_level()
    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return backend


MAKES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertTokenizerFast(tokenizer_object=word_piece()),
    "distilbert": lambda: transformers.DistilBertTokenizerFast(tokenizer_object=word_piece()),
    "roberta": lambda: transformers.RobertaTokenizerFast(tokenizer_object=roberta_like()),
    "gpt2": lambda: transformers.GPT2TokenizerFast(tokenizer_object=byte_level()),
    "xlnet": lambda: transformers.XLNetTokenizerFast(tokenizer_object=metaspace()),
    "bigbird": lambda: transformers.BigBirdTokenizerFast(tokenizer_object=metaspace()),
    "sequence": lambda: transformers.Qwen2TokenizerFast(tokenizer_object=sequence_like()),
}


@pytest.fixture(params=MAKES)
def original(request: pytest.FixtureRequest) -> Any:
    return MAKES[request.param]()


def sequences(original: Any) -> list[Any]:
    texts = [*TEXTS, *(f"a {token} b{token}" for token in original.all_special_tokens)]
    return [*texts, *((text, other) for text in texts for other in ("good", *texts[:2]))]


def told(original: Any, text: Any, **options: Any) -> tuple[list[int], list[int]]:
    encoded = original(*(text if isinstance(text, tuple) else (text,)), **options)
    return encoded["input_ids"], encoded.get("token_type_ids", [0] * len(encoded["input_ids"]))


@pytest.mark.parametrize("side", ["right", "left"])
def test_ids_and_token_types_are_those_of_transformers(original: Any, side: str) -> None:
    original.truncation_side = side
    served = Tokenizer(definition_of(original, "it"), 24)
    for text in sequences(original):
        ((window, *_),) = served.windows([text])
        assert (window.input_ids, window.token_type_ids) == told(original, text, truncation=True, max_length=24), text


def test_a_tokenizer_without_token_types_types_no_second_text(original: Any) -> None:
    original.model_input_names = ["input_ids", "attention_mask"]
    served = Tokenizer(definition_of(original, "it"), 24)
    ((window,),) = served.windows([("a b", "c d")])
    assert not any(window.token_type_ids)
    assert window.input_ids == original("a b", "c d")["input_ids"]
    assert {0, 1} <= set(window.sequence_ids)


def test_the_side_that_is_cut_is_the_tokenizer_s_unless_the_caller_names_another() -> None:
    original = MAKES["bert"]()
    original.truncation_side = "left"
    task = TextClassification(Tokenizer(definition_of(original, "it"), 8), ["bad", "good"])
    text = "bad " + "film " * 20 + "good"

    def ids(**options: Any) -> list[int]:
        (encoded,) = task.encode([ClassificationItem(text)], ClassificationOptions(truncation="truncate", **options))
        return list(encoded.rows[0].input_ids)  # type: ignore[union-attr]

    assert ids() == ids(truncation_side="left") == original(text, truncation=True, max_length=8)["input_ids"]
    original.truncation_side = "right"
    assert ids(truncation_side="right") == original(text, truncation=True, max_length=8)["input_ids"] != ids()


def test_windows_begin_at_the_beginning_whatever_side_is_cut() -> None:
    original = MAKES["bert"]()
    before = Tokenizer(definition_of(original, "it"), 16).with_windows(8, 2).windows(TEXTS)
    original.truncation_side = "left"
    after = Tokenizer(definition_of(original, "it"), 16).with_windows(8, 2).windows(TEXTS)
    assert [[window.input_ids for window in windows] for windows in after] == [
        [window.input_ids for window in windows] for windows in before
    ]


def test_a_tokenizer_whose_behaviour_no_file_holds_is_refused() -> None:
    original = MAKES["bert"]()
    original.split_special_tokens = True
    with pytest.raises(InvalidSettings, match=r"the tokenizer of it cannot be served: .* encodes 'a \[") as caught:
        definition_of(original, "it")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_wants_more_than_text_is_refused() -> None:
    boxed = transformers.LayoutLMv2TokenizerFast(tokenizer_object=word_piece())
    with pytest.raises(InvalidSettings, match="the tokenizer of it does not read plain texts"):
        definition_of(boxed, "it")


def test_nothing_of_padding_or_of_another_truncation_is_kept() -> None:
    backend = word_piece()
    backend.enable_padding(length=128)
    backend.enable_truncation(128)
    definition = json.loads(definition_of(transformers.BertTokenizerFast(tokenizer_object=backend), "it"))
    assert (definition["padding"], definition["truncation"]) == (None, None)
