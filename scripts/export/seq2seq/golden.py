"""Golden requests of models that write: the published graphs' own answers, with their tokens and how sure each was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.core.errors import HooperError, InvalidSettings
from app.core.sequences import SamplingParams
from app.core.types import Precision, Row, RowOutput
from app.runtime.sampling import LogitsProcessor
from app.tasks.base import Encoded
from app.tasks.golden_tokens import ROWS, rows_in
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.seq2seq.steps import Graphs, open_engine
from scripts.tasks.spec import TrainingTask
from scripts.training.evaluation import encode_all

MAX_GAP = 1e4
"""What a forced token is before all others by; JSON knows no infinity."""


def golden_answers(
    training: TrainingTask,
    task: Any,
    graphs: Graphs,
    max_tokens: int,
    requests: Sequence[Mapping[str, Any]],
    leaves_out: bool = False,
) -> list[dict[str, Any]]:
    """Requests with the graphs' own answers in fp32, as JSON: what every load of the model is checked against.

    Args:
        requests: fields of items.
        leaves_out: whether those that the model cannot read are left out.

    Raises:
        InvalidSettings: a request cannot be answered, or none is left.
    """
    options = task.golden_options()
    try:
        if leaves_out:
            requests = [request for request in requests if _is_read(task, training.item(request), options)]
        encoded = list(encode_all(task, options, [training.item(request) for request in requests]))
        engine, sampling = open_engine(graphs, max_tokens), task.sampling(options)
        outputs = [engine.generate(entry.rows, sampling) for entry in encoded]
        answers = [task.decode(entry, written, options) for entry, written in zip(encoded, outputs, strict=True)]
    except HooperError as error:
        raise InvalidSettings(f"a golden request cannot be answered: {error}") from error
    if not answers:
        raise InvalidSettings("the model reads none of the usual golden texts at once; it is too small to be served")
    writer = GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)
    first = sampling.decoder_input_ids or (graphs.decoder.start_token_id,) if graphs.has_encoder else None
    entries = zip(requests, encoded, outputs, answers, strict=True)
    return [
        {
            "item": dict(request),
            "answer": dataclasses.asdict(answer) | {ROWS: _rows(writer, entry.rows, written, sampling, first)},
        }
        for request, entry, written, answer in entries
    ]


def with_rows_of(
    precision: Precision, golden: Sequence[Mapping[str, Any]], formed: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Golden answers with what a form of the decoder's step writes for the same requests; both are of `golden_answers`."""
    return [
        {**entry, "answer": {**entry["answer"], rows_in(precision): other["answer"][ROWS]}}
        for entry, other in zip(golden, formed, strict=True)
    ]


def _is_read(task: Any, item: Any, options: Any) -> bool:
    (encoded,) = task.encode([item], options)
    return isinstance(encoded, Encoded)


def _rows(
    writer: GreedyWriter,
    rows: Sequence[Row],
    outputs: Sequence[RowOutput],
    sampling: SamplingParams,
    first: Sequence[int] | None,
) -> list[dict[str, Any]]:
    """Of each row what `app.tasks.golden_tokens` compares; `first` is None where the rows are what is continued."""
    written = [output["token_ids"].tolist() for output in outputs]
    read = [row.input_ids if first is None else first for row in rows]
    return [
        {"token_ids": token_ids, "gaps": gaps(writer.logits_after(row, token_ids, before), token_ids, sampling, before)}
        for row, token_ids, before in zip(rows, written, read, strict=True)
    ]


def gaps(logits: np.ndarray, token_ids: Sequence[int], sampling: SamplingParams, first: Sequence[int]) -> list[float]:
    """How far the score of each token was above the next best one's, once everything that is asked for was done to the scores.

    Args:
        logits: (tokens, vocabulary), before each of the tokens.
        token_ids: that were written.
        sampling: how.
        first: what the decoder read before them.
    """
    process = LogitsProcessor(sampling, len(first))
    found = []
    for place, (token, scores) in enumerate(zip(token_ids, logits.copy(), strict=True)):
        process(np.array([*first, *token_ids[:place]], np.int64), scores)
        own, scores[token] = float(scores[token]), -np.inf
        found.append(round(min(own - float(scores.max()), MAX_GAP), 4))
    return found
