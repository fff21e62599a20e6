"""How faithful explanations are: what the model says once the words that are said to matter are hidden, or are all it reads.

Comprehensiveness is what the target's probability loses without the top 1, 5, 10, 20 and 50 % of the words, averaged: the area
over that part of the deletion curve; sufficiency is what it loses with only those (DeYoung et al., "ERASER", 2020). The same
in log-odds, which do not saturate. Higher comprehensiveness and lower sufficiency are better; random weights are the floor.

    python -m scripts.compare_explanations --output docs/measurements/explanations.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.artefact import next_version
from app.core.errors import HooperError
from app.core.manifest import read_manifest, verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.attribution import METHODS, Method, Spending
from app.tasks.extractive_summarization.task import ExtractiveSummarization, SummaryItem, SummaryOptions
from app.tasks.passage import Keep, Passage
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer
from scripts.training.records import read_records

SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)
BATCH_TOKENS = 1024
REVIEW_WORDS = 190
SST2 = "../shared/data/sst2/validation.jsonl.gz"
XQUAD = "../shared/data/xquad_en/test.jsonl.gz"
NEWS = "../shared/data/cnn_dailymail/validation_100.jsonl.gz"


@dataclass(frozen=True)
class Kind:
    """What one kind of item is explained with."""

    model: str
    task: Callable[..., Any]
    options: Any
    items: Callable[[int, random.Random], list[Any]]
    count: int


def sentences(count: int, rng: random.Random) -> list[ClassificationItem]:
    return [ClassificationItem(record.columns["text"]) for record in rng.sample(read_records(SST2), count)]


def reviews(count: int, rng: random.Random) -> list[ClassificationItem]:
    """Reviews of 200 words, made of held-out sentences, seven in ten of one label: no held-out set has long ones."""
    records = read_records(SST2)
    by_label = {label: [one.columns["text"] for one in records if one.columns["label"] == label] for label in _labels(records)}
    made = []
    for number in range(count):
        mostly, seldom = (by_label[label] for label in sorted(by_label)[:: 1 if number % 2 else -1])
        parts: list[str] = []
        while sum(len(one.split()) for one in parts) < REVIEW_WORDS:
            parts.append(rng.choice(mostly if rng.random() < 0.7 else seldom))
        made.append(ClassificationItem(" ".join(parts)))
    return made


def questions(count: int, rng: random.Random) -> list[QuestionItem]:
    chosen = rng.sample(read_records(XQUAD), count)
    return [QuestionItem(record.columns["question"], record.columns["context"]) for record in chosen]


def articles(count: int, rng: random.Random) -> list[SummaryItem]:
    return [SummaryItem(record.columns["text"]) for record in rng.sample(read_records(NEWS), count)]


KINDS = {
    "sentence": Kind("sentiment", TextClassification, ClassificationOptions(), sentences, 40),
    "review": Kind("sentiment", TextClassification, ClassificationOptions(), reviews, 8),
    "answer": Kind("qa", QuestionAnswering, AnswerOptions(), questions, 8),
    "summary": Kind("summary", ExtractiveSummarization, SummaryOptions(), articles, 6),
}


class Asked:
    """A passage and the engine that reads it, with what that has cost."""

    def __init__(self, session: EncoderEngine, passage: Passage) -> None:
        self.passage, self._session = passage, session
        self.num_rows = self.num_tokens = self.num_waves = 0

    def ask(self, selections: Sequence[Keep]) -> list[float]:
        """Log-odds of the target with only these words."""
        rows = [self.passage.without(keep) for keep in selections]
        self.num_rows += len(rows)
        self.num_tokens += sum(row.num_tokens for row in rows)
        self.num_waves += 1
        answers: list[float] = []
        start = 0
        while start < len(rows):
            stop = start + 1
            while stop < len(rows) and sum(row.num_tokens for row in rows[start : stop + 1]) <= BATCH_TOKENS:
                stop += 1
            answers += map(self.passage.log_odds, self._session.run_rows(rows[start:stop]))
            start = stop
        return answers

    def weights(self, method: Method, budget: int) -> NDArray[np.float64]:
        search = METHODS[method](self.passage, Spending(budget))
        wave = next(search)
        while True:
            try:
                wave = search.send(self.ask(wave))
            except StopIteration as end:
                found: NDArray[np.float64] = end.value.weights
                return found


def faithfulness(asked: Asked, weights: NDArray[np.float64]) -> dict[str, float]:
    """Comprehensiveness and sufficiency of an order of the words, in probability and in log-odds."""
    count = len(weights)
    order = np.argsort(-weights, kind="stable")
    tops = [np.isin(np.arange(count), order[: max(1, int(np.ceil(share * count)))]) for share in SHARES]
    log_odds = np.array(asked.ask([np.ones(count, bool), *(~top for top in tops), *tops]))
    probability = 0.5 * (1 + np.tanh(0.5 * log_odds))
    lost, lost_odds = probability[0] - probability[1:], log_odds[0] - log_odds[1:]
    half = len(SHARES)
    return {
        "comprehensiveness": float(lost[:half].mean()),
        "sufficiency": float(lost[half:].mean()),
        "comprehensiveness_log_odds": float(lost_odds[:half].mean()),
        "sufficiency_log_odds": float(lost_odds[half:].mean()),
    }


def compare(models: Path, budget: int, scale: float = 1.0, seed: int = 1) -> dict[str, Any]:
    """Explain items of every kind with every method, and with random weights, at the same budget."""
    report: dict[str, Any] = {"budget_tokens": budget, "shares": SHARES, "seed": seed, "kinds": {}}
    for name, kind in KINDS.items():
        passages = list(_passages(models, kind, max(1, round(kind.count * scale)), random.Random(seed)))
        report["kinds"][name] = {
            "model": kind.model,
            "items": len(passages),
            "words": round(float(np.mean([len(one.passage.words) for one in passages])), 1),
            "tokens": round(float(np.mean([one.passage.row.num_tokens for one in passages])), 1),
            **_measured(passages, budget),
            "random": _random(passages, np.random.default_rng(seed)),
        }
        print(name, json.dumps(report["kinds"][name]), file=sys.stderr, flush=True)
    return report


def _labels(records: Sequence[Any]) -> set[Any]:
    return {one.columns["label"] for one in records}


def _passages(models: Path, kind: Kind, count: int, rng: random.Random) -> Iterator[Asked]:
    folder = models / kind.model / str(next_version(models / kind.model) - 1)  # the newest
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    task = kind.task(Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens), **manifest.task_options)
    for item in kind.items(count, rng):
        (encoded,) = task.encode([item], kind.options)
        if isinstance(encoded, HooperError):
            raise encoded
        yield Asked(session, task.passage(item, encoded, session.run_rows(encoded.rows), None))


def _measured(passages: Sequence[Asked], budget: int) -> dict[str, Any]:
    return {method: _measure(passages, method, budget) for method in METHODS}


def _measure(passages: Sequence[Asked], method: Method, budget: int) -> dict[str, float]:
    found, seconds, rows, tokens = [], [], [], []
    for one in passages:
        before = one.num_rows, one.num_tokens
        began = time.perf_counter()
        weights = one.weights(method, budget)
        seconds.append(time.perf_counter() - began)
        rows.append(one.num_rows - before[0])
        tokens.append(one.num_tokens - before[1])
        found.append(faithfulness(one, weights))
    cost = {"rows": float(np.mean(rows)), "tokens_read": float(np.mean(tokens)), "seconds": float(np.mean(seconds))}
    return {**_means(found), **{key: round(value, 2) for key, value in cost.items()}}


def _random(passages: Sequence[Asked], rng: np.random.Generator) -> dict[str, float]:
    return _means([faithfulness(one, rng.random(len(one.passage.words))) for one in passages])


def _means(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([one[key] for one in found])), 3) for key in found[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where every method beats random weights on every kind of item; else 1."""
    parser = argparse.ArgumentParser(prog="compare_explanations", description="How faithful explanations are.")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository")
    parser.add_argument("--budget", type=int, default=4096, help="tokens that one explanation may read")
    parser.add_argument("--scale", type=float, default=1.0, help="more items or fewer than by default")
    parser.add_argument("--seed", type=int, default=1, help="draws the items; the method was chosen on those of seed 0")
    parser.add_argument("--output", type=Path, help="file for the report")
    options = parser.parse_args(arguments)
    try:
        report = compare(options.models, options.budget, options.scale, options.seed)
    except HooperError as error:
        print(f"compare_explanations: {error.detail}", file=sys.stderr)
        return 2
    text = json.dumps(report, indent=2) + "\n"
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")
    key = "comprehensiveness_log_odds"
    return int(any(one[method][key] <= one["random"][key] for one in report["kinds"].values() for method in METHODS))


if __name__ == "__main__":
    sys.exit(main())
