"""What a translator says of its languages."""

from __future__ import annotations

import transformers

from scripts.tasks.translation import SPEC as TRANSLATION
from tests.support.tiny_translators import tokenizer_of, writer_options


def test_nllb_reads_the_source_first_and_in_its_older_form_last() -> None:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "deu_Latn", "eng_Latn", "abc_def"]
    options, notes = writer_options(TRANSLATION, transformers.M2M100Config(), tokenizer_of("NllbTokenizerFast", tokens))
    assert options == {
        "sources": ["deu_Latn", "eng_Latn"], "targets": ["deu_Latn", "eng_Latn"],
        "language_tokens": {"deu_Latn": "deu_Latn", "eng_Latn": "eng_Latn"}, "source_place": "first",
        "target_place": "first_written",
    }  # fmt: skip
    assert notes == ["it knows 2 languages: deu_Latn, eng_Latn"]
    old = tokenizer_of("NllbTokenizerFast", tokens, legacy_behaviour=True, init_kwargs={"src_lang": "deu_Latn"})
    options, _ = writer_options(TRANSLATION, transformers.M2M100Config(), old)
    assert (options["source_place"], options["source"]) == ("last", "deu_Latn")


def test_mbart_starts_with_the_target_and_its_successor_writes_it_first() -> None:
    tokens = ["<s>", "</s>", "en_XX", "ro_RO", "x_y"]
    config = transformers.MBartConfig(decoder_start_token_id=3)
    options, notes = writer_options(TRANSLATION, config, tokenizer_of("MBartTokenizerFast", tokens))
    assert (options["source_place"], options["target_place"], options["target"]) == ("last", "start", "ro_RO")
    assert notes[1] == "a request that names no target gets Romanian (ro_RO)"
    config = transformers.MBartConfig(decoder_start_token_id=1, forced_bos_token_id=2)
    options, _ = writer_options(TRANSLATION, config, tokenizer_of("MBart50TokenizerFast", tokens))
    assert (options["source_place"], options["target_place"], options["target"]) == ("first", "first_written", "en_XX")
