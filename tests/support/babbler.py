"""A model that writes whatever comes to its mind, as far as a form lets it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from app.core.sequences import SamplingParams
from app.runtime.sampling import TokenSampler
from app.tasks.constraints import GrammarCompiler, OutputFormat
from app.tasks.tokenizer import Tokenizer
from tests.support.writing import EOS, generator

BEYOND = 3
"""Logits for which there is no token: models are wider than their vocabularies."""
MAX_TOKENS = 400
BESIDE = ThreadPoolExecutor(1)


class Babbler:
    """A model that finds every token as likely as any other, and now and then likes to come to an end."""

    def __init__(self, definition: str, has_encoder: bool = True) -> None:
        self.writer = generator(definition=definition, has_encoder=has_encoder)
        self.tokenizer = Tokenizer(definition, 64)
        self.size = self.tokenizer.vocabulary_size() + BEYOND
        self.compiler = GrammarCompiler(self.tokenizer, self.size, (EOS,), drops_blank=has_encoder)
        self._ends = [number for number in range(self.size) if set(self.tokenizer.token(number)) & set('"}],')] + [EOS]

    def write(self, form: OutputFormat, seed: int, temperature: float = 0.0) -> tuple[str, bool]:
        """A text in this form, and whether it came to its end."""
        draw = np.random.default_rng(seed)
        params = SamplingParams(
            MAX_TOKENS, eos_token_ids=(EOS,), constraint=self.compiler.compiled(form), temperature=temperature, seed=seed
        )
        sampler = TokenSampler(params, (0,))
        for _ in range(MAX_TOKENS):
            logits = draw.normal(size=(1, self.size)).astype(np.float32)
            logits[0, self._ends] += 1.5
            before = logits.copy()
            if seed % 3 and sampler.is_unprepared:  # as the engine does, beside a step; else the sampler finds it out itself
                BESIDE.submit(sampler.prepare).result()
            is_finished = sampler.write(logits).is_finished
            assert (logits == before).all()  # which the cache's rows share
            if is_finished:
                break
        has_ended = sampler.token_ids[-1] == EOS
        return self.writer.text_of(sampler.token_ids), has_ended
