"""Every way of choosing tokens chooses what transformers chooses, on the same weights and on the same scores."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.generation import logits_process as processors

from app.core.manifest import Manifest
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.decoder_session import open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import Provider
from app.runtime.sampling import LogitsProcessor, log_softmax, warped
from app.tasks.detokenizer import without_blanks
from tests.support.tiny_writer import TinyWriter, publish_tiny_writer, trained

Writing = tuple[str, TinyWriter, GenerationEngine]
"""A family, its published model, and an engine of that."""
CPU = Provider("cpu", "fp32", "for a test")
VOCABULARY, EOS = 40, 3


# --- whole texts


@pytest.fixture(scope="module", params=["t5", pytest.param("bart", marks=pytest.mark.slow)])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Writing:
    tiny = publish_tiny_writer(tmp_path_factory.mktemp("models"), request.param)
    manifest, decoder = tiny.manifest, tiny.manifest.decoder
    assert decoder is not None
    encoder = EncoderEngine(tiny.folder / manifest.graph.file, manifest.graph, CPU, 1)
    file = tiny.folder / decoder.file
    return request.param, tiny, GenerationEngine(manifest, encoder, file, open_decoder(file, decoder, CPU, 1), CPU, 12)


def sampling_of(manifest: Manifest, **options: Any) -> SamplingParams:
    decoder = manifest.decoder
    assert decoder is not None
    first = (decoder.start_token_id, *options.get("prompt", ()))
    values = {"max_new_tokens": 12, **options, "eos_token_ids": decoder.eos_token_ids, "decoder_input_ids": first}
    return SamplingParams(**{name: value for name, value in values.items() if name != "prompt"})


def generated(model: Any, row: Row, sampling: SamplingParams) -> list[list[int]]:
    """What transformers returns for one row alone, without what it starts with and what follows the end."""
    names = ("max_new_tokens", "min_new_tokens", "num_beams", "early_stopping", "length_penalty", "num_return_sequences",
             "repetition_penalty", "no_repeat_ngram_size", "forced_bos_token_id", "forced_eos_token_id")  # fmt: skip
    options = {name: getattr(sampling, name) for name in names}
    options["bad_words_ids"] = [list(words) for words in sampling.bad_words_ids] or None
    options["suppress_tokens"] = list(sampling.suppress_tokens) or None
    if sampling.num_beams == 1:
        del options["early_stopping"], options["length_penalty"]
    ids = torch.tensor([list(row.input_ids)])
    first = torch.tensor([list(sampling.decoder_input_ids)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), decoder_input_ids=first, do_sample=False, **options)
    returned = []
    for tokens in output[:, first.shape[1] :].tolist():
        ends = [number for number, token in enumerate(tokens) if token in sampling.eos_token_ids]
        returned.append(tokens[: ends[0] + 1] if ends else tokens)
    return returned


BEAMS = {"num_beams": 3, "num_return_sequences": 3}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
    "forbidden": {"bad_words_ids": ((4,), (9, 10), (5, 6)), "suppress_tokens": (7, 8)},
    "forced": {"forced_bos_token_id": 6, "forced_eos_token_id": 1, "max_new_tokens": 5},
    "prompt": {"prompt": (5, 9)},
    "beams": BEAMS,
    "many beams": {"num_beams": 6, "num_return_sequences": 2},
    "beams, short": {**BEAMS, "max_new_tokens": 4},
    "beams, one token": {**BEAMS, "max_new_tokens": 1},
    "beams, early": {**BEAMS, "early_stopping": True},
    "beams, never early": {**BEAMS, "early_stopping": "never", "length_penalty": 2.0},
    "beams, long ones preferred": {**BEAMS, "length_penalty": 2.5},
    "beams, short ones preferred": {**BEAMS, "length_penalty": -1.0, "early_stopping": "never"},
    "beams, length without weight": {**BEAMS, "length_penalty": 0.0},
    "beams, penalties": {**BEAMS, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
    "beams, forced": {**BEAMS, "forced_bos_token_id": 6, "forced_eos_token_id": 1, "max_new_tokens": 8},
    "beams, prompt": {**BEAMS, "prompt": (5, 9), "bad_words_ids": ((4,), (9, 10))},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_texts_are_those_of_generate(writer: Writing, way: str) -> None:
    family, tiny, engine = writer
    model, _ = trained(family)
    sampling = sampling_of(tiny.manifest, **WAYS[way])
    for row, output in zip(tiny.rows[:4], engine.generate(tiny.rows[:4], sampling), strict=True):
        token_ids, index = output["token_ids"], output["sequence_index"]
        written = [token_ids[index == number].tolist() for number in range(sampling.num_return_sequences)]
        assert written == generated(model, row, sampling)


def test_several_tokens_may_end_a_text(writer: Writing) -> None:
    family, tiny, engine = writer
    model, _ = trained(family)
    for options in ({}, BEAMS):
        sampling = replace(sampling_of(tiny.manifest, **options), eos_token_ids=(1, 9, 12))
        for row, output in zip(tiny.rows[:4], engine.generate(tiny.rows[:4], sampling), strict=True):
            token_ids, index = output["token_ids"], output["sequence_index"]
            written = [token_ids[index == number].tolist() for number in range(sampling.num_return_sequences)]
            before = model.generation_config.eos_token_id
            model.generation_config.eos_token_id = [1, 9, 12]
            try:
                assert written == generated(model, row, sampling)
            finally:
                model.generation_config.eos_token_id = before


# --- scores


@cache
def scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=VOCABULARY).astype(np.float32)


def processed(token_ids: list[int], options: dict[str, Any], is_log: bool) -> np.ndarray:
    made = log_softmax(scores(len(token_ids))) if is_log else scores(len(token_ids)).copy()
    sampling = SamplingParams(**{"max_new_tokens": 12, "eos_token_ids": (EOS, 5), **options})
    LogitsProcessor(sampling, 1)(np.array(token_ids), made)
    return made


PROCESSORS: dict[str, tuple[dict[str, Any], Any]] = {
    "repetition": ({"repetition_penalty": 1.3}, lambda: processors.RepetitionPenaltyLogitsProcessor(1.3)),
    "reward": ({"repetition_penalty": 0.6}, lambda: processors.RepetitionPenaltyLogitsProcessor(0.6)),
    "1-gram": ({"no_repeat_ngram_size": 1}, lambda: processors.NoRepeatNGramLogitsProcessor(1)),
    "2-gram": ({"no_repeat_ngram_size": 2}, lambda: processors.NoRepeatNGramLogitsProcessor(2)),
    "3-gram": ({"no_repeat_ngram_size": 3}, lambda: processors.NoRepeatNGramLogitsProcessor(3)),
    "bad words": (
        {"bad_words_ids": ((7,), (EOS,), (9, 8), (1, 2, 3, 4))},
        lambda: processors.NoBadWordsLogitsProcessor([[7], [EOS], [9, 8], [1, 2, 3, 4]], [EOS, 5]),
    ),
    "minimum": ({"min_new_tokens": 4}, lambda: processors.MinNewTokensLengthLogitsProcessor(1, 4, [EOS, 5])),
    "forced first": ({"forced_bos_token_id": 6}, lambda: processors.ForcedBOSTokenLogitsProcessor(6)),
    "forced last": ({"forced_eos_token_id": EOS}, lambda: processors.ForcedEOSTokenLogitsProcessor(13, EOS)),
    "suppressed": ({"suppress_tokens": (2, 4)}, lambda: processors.SuppressTokensLogitsProcessor([2, 4])),
}
WRITTEN = ([0], [0, 9], [0, 1, 2, 3], [0, 8, 8, 8], [0, 4, 5, 4, 5, 4], [0, 7, 9, 8, 1, 9, 8, 7, 9], [0, *range(1, 12)])


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("name", [*PROCESSORS, "all"])
def test_processors_change_scores_as_those_of_transformers(name: str, is_log: bool) -> None:
    chosen = list(PROCESSORS.values()) if name == "all" else [PROCESSORS[name]]
    options = {key: value for entry, _ in chosen for key, value in entry.items()}
    if name == "all":
        options["repetition_penalty"], options["no_repeat_ngram_size"] = 1.3, 2
        chosen = [PROCESSORS[key] for key in PROCESSORS if key not in ("reward", "1-gram", "3-gram")]
    for token_ids in WRITTEN:
        reference = torch.from_numpy(scores(len(token_ids)).copy())[None]
        if is_log:
            reference = torch.log_softmax(reference, dim=-1)
        for _, build in chosen:
            reference = build()(torch.tensor([token_ids]), reference)
        np.testing.assert_allclose(processed(token_ids, options, is_log), reference[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 0.01])
@pytest.mark.parametrize("min_p", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 5, 99])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_filters_leave_what_those_of_transformers_leave(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    options = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "temperature": temperature}
    config = transformers.GenerationConfig(do_sample=True, **options)
    chain: list[Any] = [processors.TemperatureLogitsWarper(temperature)]
    chain += [processors.TopKLogitsWarper(top_k)] if config.top_k else []
    chain += [processors.TopPLogitsWarper(top_p)] if top_p < 1 else []
    chain += [processors.MinPLogitsWarper(min_p)] if min_p else []
    for seed in range(3):
        logits = scores(100 + seed).copy()
        logits[seed * 3] = -np.inf  # forbidden before
        reference = torch.from_numpy(logits.copy())[None]
        for warper in chain:
            reference = warper(None, reference)
        np.testing.assert_allclose(warped(logits, SamplingParams(max_new_tokens=1, **options)), reference[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "text", ["It is n't so , is it ?", "a ' b ' s  . ' m 've", "He 'd said ' no ' !", " . ,", "they 're  I 'm"]
)
def test_blanks_before_punctuation_are_left_out_alike(text: str) -> None:
    assert without_blanks(text) == transformers.PreTrainedTokenizerBase.clean_up_tokenization(text)
