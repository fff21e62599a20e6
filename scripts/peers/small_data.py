"""How well few labelled rows are learned: the defaults of `hooper train`, other options, and TF-IDF with logistic regression.

python -m scripts.peers.small_data --set bbc "bbc.jsonl --label-column topic" --set sst2 sst2.jsonl --journal journal.jsonl

Of each set, rows are put away that nothing is trained on; from the others, samples are drawn by label, one for each number of
rows and each seed. Every way is trained on the same sample, and judged on the same rows put away. What is finished is kept in
the journal, so that a run that was stopped goes on; runs of different sets may share one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline, make_union

from app.core.command_line import parse_options
from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.report import report_head, write_json
from scripts.tasks.spec import Prepared
from scripts.training.data import Example, read_all
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import recipe_of, recipe_options

TFIDF = "TF-IDF"
DEFAULT = "hooper train"
SEED = 31
STRENGTHS = (1.0, 10.0, 100.0)
MIN_PER_LABEL = 2
"""Rows per label on average, below which a sample says nothing of a set."""


class QuickPipeline(Pipeline):
    """Nothing of it is published: whether it could be is not tried for each sample."""

    def _try_out(self, *arguments: Any) -> None:
        pass


@dataclass(frozen=True)
class Cell:
    """One training."""

    set: str
    rows: int
    seed: int
    way: str

    def is_in(self, finished: Mapping[str, Any]) -> bool:
        return all(finished[key] == value for key, value in vars(self).items())


class LabelledSet:
    """A set, cut once into rows that are judged and a pool that samples are drawn from."""

    def __init__(self, name: str, words: str, test_rows: int) -> None:
        """
        Args:
            words: its file, and options of `hooper train` for it, such as `--label-column topic`.
            test_rows: how many are put away.
        """
        self.name, self._test_rows = name, test_rows
        file, *options = shlex.split(words)
        self._values = {"data": [file], "name": "sample", **parse_options(recipe_options(), options)}

    @cached_property
    def prepared(self) -> Prepared:
        """The pool as what is trained on, the rows put away as what is held out.

        Raises:
            InvalidSettings: its rows have no label each, or are too few.
        """
        recipe = recipe_of(self._values)
        pipeline = Pipeline(recipe, None, lambda stage, text: None)
        prepared = pipeline.training.prepare(recipe, read_all(recipe))
        if prepared.task_options.get("problem_type") != "single_label_classification":
            raise InvalidSettings(f"{self.name}: only texts with one label each can be compared here")
        examples = [*prepared.dataset.train, *prepared.dataset.validation]
        random.Random(SEED).shuffle(examples)
        if len(examples) <= self._test_rows:
            raise InvalidSettings(f"{self.name} has {len(examples)} rows; more than {self._test_rows} are needed")
        dataset = replace(prepared.dataset, train=examples[self._test_rows :], validation=examples[: self._test_rows])
        return replace(prepared, dataset=dataset)

    def sample(self, rows: int, seed: int) -> Prepared | None:
        """So many rows of the pool, by label; None where it has not so many, or they would be too few for the labels."""
        pool = self.prepared.dataset.train
        if rows > len(pool) or rows < MIN_PER_LABEL * len(self.prepared.task_options["labels"]):
            return None
        drawn = pool
        if rows < len(pool):
            drawn, _ = train_test_split(pool, train_size=rows, stratify=[example.target for example in pool], random_state=seed)
        return replace(self.prepared, dataset=replace(self.prepared.dataset, train=drawn))

    def train(self, prepared: Prepared, words: str, seed: int) -> dict[str, Any]:
        """By `hooper train` with these options; figures are those of the model in torch."""
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            values = {**self._values, **parse_options(recipe_options(), shlex.split(words))}
            pipeline = QuickPipeline(recipe_of({**values, "runs": folder, "seed": seed}), None, lambda stage, text: None)
            began = time.process_time()
            trained = pipeline.train(prepared, resume=False)
            seconds = time.process_time() - began
            answers = pipeline.evaluate(prepared, trained).predictions.answers
        guesses = [answer.labels[0].label for answer in answers]
        return {**figures(guesses, prepared), "seconds": seconds, "updates": trained.cost["updates"]}


def figures(guesses: Sequence[str], prepared: Prepared) -> dict[str, float]:
    """Accuracy and macro F1 of guesses for the rows put away."""
    right = [example.target for example in prepared.dataset.validation]
    return {
        "accuracy": float(accuracy_score(right, guesses)),
        "macro_f1": float(f1_score(right, guesses, average="macro", zero_division=0)),
    }


def tfidf(prepared: Prepared) -> dict[str, Any]:
    """Words, pairs of words and parts of words, weighted by TF-IDF; the strength of the regression by cross-validation."""
    began = time.process_time()
    labels = [example.target for example in prepared.dataset.train]
    vectors = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    folds = min(5, max(labels.count(label) for label in set(labels)))
    search = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": list(STRENGTHS)},
        cv=StratifiedKFold(max(2, folds), shuffle=True, random_state=0),
    )
    model = make_pipeline(vectors, search)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        model.fit([_text(example) for example in prepared.dataset.train], labels)
    guesses = model.predict([_text(example) for example in prepared.dataset.validation])
    return {**figures(guesses, prepared), "seconds": time.process_time() - began}


def _text(example: Example) -> str:
    pair = example.item.text_pair
    return f"{example.item.text} {pair}" if pair else str(example.item.text)


def measure(options: argparse.Namespace) -> None:
    """Every cell that the journal does not have yet, few rows first.

    Raises:
        HooperError: a set cannot be read, or a training failed.
    """
    ways: dict[str, str] = {TFIDF: "", **dict(options.way or [[DEFAULT, ""]])}
    sets = [LabelledSet(name, words, options.test_rows) for name, words in options.set]
    finished = read_journal(options.journal)
    for rows in options.rows:
        for seed in range(options.seeds):
            for labelled in sets:
                prepared = labelled.sample(rows, seed)
                if prepared is None:
                    continue
                for way in ways:
                    cell = Cell(labelled.name, rows, seed, way)
                    if not any(map(cell.is_in, finished)):
                        result = tfidf(prepared) if way == TFIDF else labelled.train(prepared, ways[way], seed)
                        append(options.journal, {**vars(cell), **result})


def read_journal(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def append(file: Path, result: Mapping[str, Any]) -> None:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}
    line = json.dumps(rounded)
    print(line, file=sys.stderr, flush=True)
    with file.open("a", encoding="utf-8") as journal:
        journal.write(f"{line}\n")


def summary(finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each set, number of rows and way: means over the seeds that all ways of these have, standard errors of the accuracy
    and of its difference from TF-IDF on the same samples, seconds of processor time."""
    by_sample: dict[tuple[str, int], dict[str, dict[int, Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for result in finished:
        by_sample[result["set"], result["rows"]][result["way"]][result["seed"]] = result
    table = []
    for (name, rows), ways in by_sample.items():
        seeds = sorted(set.intersection(*(set(results) for results in ways.values())))
        base = ways.get(TFIDF, {})
        for way, results in ways.items() if seeds else ():
            accuracy = [results[seed]["accuracy"] for seed in seeds]
            gains = [results[seed]["accuracy"] - base[seed]["accuracy"] for seed in seeds] if base else []
            table.append(
                {
                    "set": name,
                    "rows": rows,
                    "way": way,
                    "seeds": len(seeds),
                    "accuracy": round(statistics.fmean(accuracy), 4),
                    "standard_error": standard_error(accuracy),
                    "macro_f1": round(statistics.fmean(results[seed]["macro_f1"] for seed in seeds), 4),
                    "better_than_tfidf": round(statistics.fmean(gains), 4) if gains else None,
                    "standard_error_of_difference": standard_error(gains),
                    "seconds": round(statistics.fmean(results[seed]["seconds"] for seed in seeds), 1),
                }
            )
    return table


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None of fewer than two."""
    return round(statistics.stdev(values) / math.sqrt(len(values)), 4) if len(values) > 1 else None


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """A line for each set and number of rows that every way was measured on; for each way its accuracy with the standard error,
    macro F1, seconds of processor time, and by how much it is better than TF-IDF."""
    ways = list(dict.fromkeys(entry["way"] for entry in table))
    cells = {(entry["set"], entry["rows"], entry["way"]): entry for entry in table}
    samples = dict.fromkeys((entry["set"], entry["rows"]) for entry in sorted(table, key=lambda entry: entry["rows"]))
    names = dict.fromkeys(entry["set"] for entry in table)
    header = ["set", "rows", "seeds", *(part for way in ways for part in (way, "macro F1", "time"))]
    header += [f"{way} − {TFIDF}" for way in ways if way != TFIDF]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    complete = [
        [cells[name, rows, way] for way in ways]
        for name in names
        for _, rows in filter(lambda sample: sample[0] == name, samples)
        if all((name, rows, way) in cells for way in ways)
    ]
    for entries in complete:
        first = entries[0]
        shown = [first["set"], f"{first['rows']:,}", str(min(entry["seeds"] for entry in entries))]
        for entry in entries:
            accuracy = _with_error(f"{entry['accuracy']:.3f}", entry["standard_error"])
            shown += [accuracy, f"{entry['macro_f1']:.3f}", f"{entry['seconds']:.0f} s"]
        shown += [
            _with_error(f"{entry['better_than_tfidf']:+.3f}", entry["standard_error_of_difference"])
            for entry in entries
            if entry["way"] != TFIDF
        ]
        lines.append("| " + " | ".join(shown) + " |")
    for column, way in enumerate(ways):
        gains = [entries[column]["better_than_tfidf"] for entries in complete]
        if way != TFIDF and gains:
            mean = f"{statistics.fmean(gains):+.3f}"
            lines.append(f"\n{way}: {mean} against {TFIDF} on average over {len(gains)} lines, at least {min(gains):+.3f}")
    return "\n".join(lines)


def _with_error(figure: str, error: float | None) -> str:
    return figure if error is None else f"{figure} ± {error:.3f}"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="small_data", description="How well few labelled rows are learned.")
    options.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("NAME", "FILE_AND_OPTIONS"), help="labelled texts; repeatable"
    )
    options.add_argument(
        "--way", nargs=2, action="append", metavar=("NAME", "OPTIONS"), help="options of `hooper train`; repeatable"
    )
    options.add_argument("--rows", type=int, nargs="+", default=[50, 100, 200, 300, 500, 1000], help="rows of a sample")
    options.add_argument("--seeds", type=int, default=5, help="samples of each number of rows")
    options.add_argument("--test-rows", type=int, default=500, help="rows of each set that are put away and judged")
    options.add_argument("--journal", type=Path, required=True, help="file of finished trainings; created or gone on with")
    options.add_argument("--output", type=Path, help="file for the table as json")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options, load = parser().parse_args(arguments), os.getloadavg()
    try:
        measure(options)
    except HooperError as error:
        print(f"small_data: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    table = summary(read_journal(options.journal))
    print(markdown(table))
    if options.output:
        write_json(options.output, {**report_head(load), "test_rows": options.test_rows, "table": table})
    return 0


if __name__ == "__main__":
    sys.exit(main())
