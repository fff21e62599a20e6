"""How faithful explanations are: what the model says once the words that are said to matter are hidden, or are all it reads.

Comprehensiveness is what the target's probability loses without the top 1, 5, 10, 20 and 50 % of the words, averaged: the area
over that part of the deletion curve; sufficiency is what it loses with only those (DeYoung et al., "ERASER", 2020). The same
in log-odds, which do not saturate. Higher comprehensiveness and lower sufficiency are better; random weights are the floor.

    python -m scripts.peers.explanations --output docs/measurements/explanations.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.runtime.encoder_engine import EncoderEngine
from app.tasks.attribution import METHODS, Method, Spending
from app.tasks.passage import Keep, Passage
from scripts.bench.report import measurement_parser, run_measurement
from scripts.export.published import open_version
from scripts.training.evaluation import encode_all
from scripts.training.records import read_records

SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)
BATCH_TOKENS = 1024
REVIEW_WORDS = 190
SST2 = "../shared/data/sst2/validation.jsonl.gz"
XQUAD = "../shared/data/xquad_en/test.jsonl.gz"
NEWS = "../shared/data/cnn_dailymail/validation_100.jsonl.gz"
Draw = Callable[[int, random.Random], list[dict[str, str]]]


def random_items(file: str, *fields: str) -> Draw:
    """Items of a file, drawn at random."""

    def draw(count: int, rng: random.Random) -> list[dict[str, str]]:
        return [{field: record.columns[field] for field in fields} for record in rng.sample(read_records(file), count)]

    return draw


def reviews(count: int, rng: random.Random) -> list[dict[str, str]]:
    """Reviews of 200 words, made of held-out sentences, seven in ten of one label: no held-out set has long ones."""
    by_label: dict[Any, list[str]] = {}
    for record in read_records(SST2):
        by_label.setdefault(record.columns["label"], []).append(record.columns["text"])
    texts = []
    for number in range(count):
        mostly, seldom = (by_label[label] for label in sorted(by_label)[:: 1 if number % 2 else -1])
        parts: list[str] = []
        while sum(len(part.split()) for part in parts) < REVIEW_WORDS:
            parts.append(rng.choice(mostly if rng.random() < 0.7 else seldom))
        texts.append(" ".join(parts))
    return [{"text": text} for text in texts]


KINDS: dict[str, tuple[str, Draw, int]] = {
    "sentence": ("sentiment", random_items(SST2, "text"), 40),
    "review": ("sentiment", reviews, 8),
    "answer": ("qa", random_items(XQUAD, "question", "context"), 8),
    "summary": ("summary", random_items(NEWS, "text"), 6),
}
"""Kind of item to the model that reads it, and how many items are drawn from where."""


@dataclass
class ProbedPassage:
    """A passage and the engine that reads it, with what that has cost."""

    session: EncoderEngine
    passage: Passage
    num_rows: int = 0
    num_tokens: int = 0

    def ask(self, selections: Sequence[Keep]) -> list[float]:
        """Log-odds of the target with only these words."""
        rows = [self.passage.without(keep) for keep in selections]
        self.num_rows += len(rows)
        self.num_tokens += sum(row.num_tokens for row in rows)
        answers: list[float] = []
        start = 0
        while start < len(rows):
            stop = start + 1
            while stop < len(rows) and sum(row.num_tokens for row in rows[start : stop + 1]) <= BATCH_TOKENS:
                stop += 1
            answers += map(self.passage.log_odds, self.session.run_rows(rows[start:stop]))
            start = stop
        return answers

    def weights(self, method: Method, budget: int) -> NDArray[np.float64]:
        search = METHODS[method](self.passage, Spending(budget))
        wave = next(search)
        while True:
            try:
                wave = search.send(self.ask(wave))
            except StopIteration as end:
                weights: NDArray[np.float64] = end.value.weights
                return weights


def faithfulness(probed: ProbedPassage, weights: NDArray[np.float64]) -> dict[str, float]:
    """Comprehensiveness and sufficiency of an order of the words, in probability and in log-odds."""
    count = len(weights)
    order = np.argsort(-weights, kind="stable")
    tops = [np.isin(np.arange(count), order[: max(1, int(np.ceil(share * count)))]) for share in SHARES]
    log_odds = np.array(probed.ask([np.ones(count, bool), *(~top for top in tops), *tops]))
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
    for kind, (model, draw, count) in KINDS.items():
        items = draw(max(1, round(count * scale)), random.Random(seed))
        passages, rng = _passages(models, model, items), np.random.default_rng(seed)
        figures: dict[str, Any] = {method: _measure(passages, method, budget) for method in METHODS}
        report["kinds"][kind] = {
            "model": model,
            "items": len(passages),
            "words": round(float(np.mean([len(probed.passage.words) for probed in passages])), 1),
            "tokens": round(float(np.mean([probed.passage.row.num_tokens for probed in passages])), 1),
            **figures,
            "random": _means([faithfulness(probed, rng.random(len(probed.passage.words))) for probed in passages]),
        }
        print(kind, json.dumps(report["kinds"][kind]), file=sys.stderr, flush=True)
    return report


def _passages(models: Path, model: str, items: Sequence[dict[str, str]]) -> list[ProbedPassage]:
    version = open_version(model, models)
    probed = []
    for item in map(version.training.item, items):
        (encoded,) = encode_all(version.task, version.training.serving_options(), [item])
        outputs = version.session.run_rows(encoded.rows)
        probed.append(ProbedPassage(version.session, version.task.passage(item, encoded, outputs, None)))
    return probed


def _measure(passages: Sequence[ProbedPassage], method: Method, budget: int) -> dict[str, float]:
    metrics, costs = [], []
    for probed in passages:
        num_rows, num_tokens, start = probed.num_rows, probed.num_tokens, time.perf_counter()
        weights = probed.weights(method, budget)
        costs.append((probed.num_rows - num_rows, probed.num_tokens - num_tokens, time.perf_counter() - start))
        metrics.append(faithfulness(probed, weights))
    rows, tokens, seconds = (round(float(mean), 2) for mean in np.mean(costs, axis=0))
    return {**_means(metrics), "rows": rows, "tokens_read": tokens, "seconds": seconds}


def _means(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([values[key] for values in metrics])), 3) for key in metrics[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where every method beats random weights on every kind of item; else 1."""
    parser = measurement_parser("scripts.peers.explanations", __doc__, "models")
    parser.add_argument("--budget", type=int, default=4096, help="tokens that one explanation may read")
    parser.add_argument("--scale", type=float, default=1.0, help="more items or fewer than by default")
    parser.add_argument("--seed", type=int, default=1, help="draws the items; the method was chosen on those of seed 0")
    return run_measurement(parser, _judged, arguments)


def _judged(options: argparse.Namespace) -> dict[str, Any]:
    report = compare(options.models, options.budget, options.scale, options.seed)
    key = "comprehensiveness_log_odds"
    if any(kind[method][key] <= kind["random"][key] for kind in report["kinds"].values() for method in METHODS):
        report["complaints"] = ["random weights are as good as a method's"]
    return report


if __name__ == "__main__":
    sys.exit(main())
