"""Writing with the torch model: the reference for what is published, and what a training is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from scripts.export.verify import Reference
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import predict, token_batches
from scripts.training.seq2seq.batches import pad_of
from scripts.training.seq2seq.tokenizer import PairTokenizer

BATCH_TOKENS = 4096
"""Of the sources that are read at once."""
JUDGED_ROWS = 300
"""Of the rows set aside, so many are written for after each epoch: enough to see which of two models is better."""
SPARE_TOKENS = 16


class GenerateRunner:
    """`generate` of transformers as a runner: the likeliest token at each step, or beams."""

    def __init__(self, model: Any, sampling: SamplingParams, tokenizer: PairTokenizer) -> None:
        """
        Args:
            model: of transformers, with a decoder.
            sampling: without drawing.
        """
        self._model, self._tokenizer = model.float().eval(), tokenizer
        self._pad = pad_of(model.config)
        self._has_encoder = bool(model.config.is_encoder_decoder)
        # what stands before what is continued would count as written
        self._counts_rows = sampling.repetition_penalty != 1 or sampling.no_repeat_ngram_size > 0
        self._start = list(sampling.decoder_input_ids)
        self._ends = set(sampling.eos_token_ids)
        self._config = GenerationConfig(
            do_sample=False,
            num_beams=sampling.num_beams,
            early_stopping=sampling.early_stopping,
            length_penalty=sampling.length_penalty,
            max_new_tokens=sampling.max_new_tokens,
            min_new_tokens=sampling.min_new_tokens or None,
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram_size,
            bad_words_ids=[list(word) for word in sampling.bad_words_ids] or None,
            suppress_tokens=list(sampling.suppress_tokens) or None,
            forced_bos_token_id=sampling.forced_bos_token_id,
            forced_eos_token_id=sampling.forced_eos_token_id,
            eos_token_id=list(sampling.eos_token_ids),
            pad_token_id=self._pad,
            decoder_start_token_id=self._start[0] if self._has_encoder else None,
        )

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """`token_ids` and `sequence_index` of each row, (tokens,) int64, the end of sequence included."""
        outputs: list[RowOutput] = [{}] * len(rows)
        for batch in self._batches(rows):
            for index, output in zip(batch, self._run([rows[number] for number in batch]), strict=True):
                outputs[index] = output
        return outputs

    def _batches(self, rows: Sequence[Row]) -> list[list[int]]:
        """Indices of rows that are written for together; without an encoder those alone that have less room than others."""
        if self._has_encoder:
            return token_batches(rows, BATCH_TOKENS)
        alone = [index for index, row in enumerate(rows) if self._counts_rows or self._room(row) < self._config.max_new_tokens]
        others = [index for index in range(len(rows)) if index not in set(alone)]
        batches = token_batches([rows[index] for index in others], BATCH_TOKENS)
        return [[others[place] for place in batch] for batch in batches] + [[index] for index in alone]

    def _room(self, row: Row) -> int:
        return self._tokenizer.decoder.max_length - row.num_tokens

    @torch.no_grad()
    def _run(self, rows: Sequence[Row]) -> list[RowOutput]:
        width = max(row.num_tokens for row in rows)
        tokens = torch.full((len(rows), width), self._pad)
        mask = torch.zeros_like(tokens)
        for line, row in enumerate(rows):
            # what is continued stands at the end, behind its padding
            places = slice(row.num_tokens) if self._has_encoder else slice(width - row.num_tokens, width)
            tokens[line, places] = torch.tensor(list(self._tokenizer.read(row.input_ids)))
            mask[line, places] = 1
        device, options = self._model.device, {}
        if self._has_encoder:
            options["decoder_input_ids"] = torch.tensor([self._start] * len(rows)).to(device)
        else:
            options["max_new_tokens"] = min(self._config.max_new_tokens, *map(self._room, rows))
        written = self._model.generate(
            input_ids=tokens.to(device),
            attention_mask=mask.to(device),
            generation_config=self._config,
            use_model_defaults=False,  # what the checkpoint says of generation is in the sampling parameters
            **options,
        )
        num_read = len(self._start) if self._has_encoder else width
        return [self._output(line) for line in written[:, num_read:].cpu().numpy()]

    def _output(self, tokens: np.ndarray) -> RowOutput:
        """Up to the first token that ends a text; what follows is padding."""
        ends = np.flatnonzero(np.isin(tokens, list(self._ends)))
        own: Any = tokens[: ends[0] + 1] if len(ends) else tokens
        return {"token_ids": own.astype(np.int64), "sequence_index": np.zeros(len(own), np.int64)}


def written_reference(
    training: TrainingTask,
    model: Any,
    tokenizer: PairTokenizer,
    task_options: Mapping[str, Any],
    examples: Sequence[Example],
    max_new_tokens: int | None = None,
    title: str = "evaluating",
) -> Reference:
    """What the torch model writes for the examples, through the production task.

    Args:
        max_new_tokens: of a text; None: as the task has it.
    """
    task: Any = training.serving_task(tokenizer, task_options)  # which is `Generative`
    options = replace(training.serving_options(), max_new_tokens=max_new_tokens)
    runner = GenerateRunner(model, task.sampling(options), tokenizer)
    predictions = predict(task, options, [example.item for example in examples], runner, title)
    return Reference(training, task, dict(task_options), examples, predictions, {})


def make_judge(
    training: TrainingTask, tokenizer: PairTokenizer, task_options: Mapping[str, Any], examples: Sequence[Example]
) -> Callable[[Any], Mapping[str, float]]:
    """What measures a model while it is trained, by what it writes for some of the rows set aside."""
    judged = examples[:: max(1, len(examples) // JUDGED_ROWS)]
    longest = max(map(len, tokenizer.labels([str(example.target) for example in judged])))
    room = tokenizer.decoder.max_length - 1
    limit = min(room if tokenizer.decoder.has_encoder else room // 2 + 1, longest + longest // 2 + SPARE_TOKENS)

    def judge(model: Any) -> Mapping[str, float]:
        reference = written_reference(training, model, tokenizer, task_options, judged, limit, "validating")
        headline = training.evaluate(reference.predictions.answers, judged, task_options)["headline"]
        return {name: float(value) for name, value in headline.items() if name != "rows"}

    return judge
