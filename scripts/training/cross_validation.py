"""Which options of `hooper train` learn better, judged on the training rows alone: what is reported on elsewhere stays unseen.

python -m scripts.training.cross_validation ag_news.jsonl.gz --way default "" --way "four epochs" "--epochs 4"

The rows that `hooper train` would hold out are put away first. The rest is cut into folds as `hooper train --folds` does it;
every way trains on all folds but one and answers that one, each time in a process of its own, until each row was judged once by
each way. Ways are compared row by row, against the first. Ways that `--output` already has, from the same folds, are not
trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.core.command_line import parse_options
from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_SETUP
from app.runtime.providers import available_cores
from scripts.bench.report import report_head, write_json
from scripts.bench.service import run_module
from scripts.training.data import read_all
from scripts.training.folds import cut
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import recipe_of, recipe_options

SEED = 29
CUT = "labels spread, like texts together"
"""How the rows are cut; reports that do not say it are of folds that were drawn at random."""
FIXED_KEYS = ("data", "validation", "from_feedback", "split", "max_rows", "repeat", "seed")
"""Recipe keys that decide which rows are judged: the same for every way."""


def judge(options: Mapping[str, Any], fold: int, num_folds: int) -> dict[str, Any]:
    """Train on all folds but this one: which rows of this one are answered rightly, in order, and the seconds it took.

    Args:
        fold: counted from 0.
        num_folds: 2 or more.

    Raises:
        InvalidSettings: as for `hooper train`, or the rows have no label each, or are fewer than the folds.
    """
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        recipe = recipe_of({"name": "way", **options, "runs": folder})
        pipeline = Pipeline(recipe, None, lambda stage, text: print(f"{stage:10} {text}", file=sys.stderr, flush=True))
        prepared = pipeline.with_unlabelled(pipeline.training.prepare(recipe, read_all(recipe)))
        if prepared.task_options.get("problem_type") != "single_label_classification":
            raise InvalidSettings("only texts with one label each can be compared here")
        folds = cut(prepared.written, num_folds, pipeline.training.group, pipeline.training.strata, SEED)
        prepared = pipeline.training.prepared_again(prepared, folds.dataset(fold), recipe)
        trained = pipeline.train(prepared, resume=False)
        reference = pipeline.evaluate(prepared, trained)
    answers = [answer.labels[0].label for answer in reference.predictions.answers]
    right = [int(answer == example.target) for answer, example in zip(answers, reference.examples, strict=True)]
    return {"right": right, "seconds": trained.cost["seconds"], "epochs": trained.cost["epochs"]}


def compare(right: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """Accuracy of each way, and by how much it is better than the first, with the standard error of that difference.

    Args:
        right: of each way, whether each row was answered rightly (1) or not (0), rows in the same order.
    """
    first = next(iter(right.values()))
    compared = {}
    for way, rows in right.items():
        gains = [row - other for row, other in zip(rows, first, strict=True)]
        mean = sum(gains) / len(gains)
        variance = sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
        compared[way] = {
            "accuracy": round(sum(rows) / len(rows), 4),
            "better_by": round(mean, 4),
            "standard_error": round(math.sqrt(variance / len(gains)), 4),
        }
    return compared


def measure(options: argparse.Namespace, known: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every way on every fold.

    Args:
        known: ways that an earlier run judged on the same folds.

    Raises:
        InvalidSettings: two ways have one name, or there are too few folds or trainings at once.
        SetupError: a training failed.
    """
    ways = dict(options.way)
    if len(ways) < len(options.way):
        raise InvalidSettings("each --way needs a name of its own")
    if options.folds < 2:
        raise InvalidSettings(f"--folds is {options.folds}; at least 2 are needed")
    if options.at_once < 1:
        raise InvalidSettings(f"--at-once is {options.at_once}; at least 1 is needed")
    results = {way: result for way, result in known.items() if result["options"] == ways.get(way, result["options"])}
    tasks = [(way, fold) for fold in range(options.folds) for way in ways if way not in results]
    with ThreadPoolExecutor(options.at_once) as pool:
        outcomes = dict(zip(tasks, pool.map(lambda task: judge_in_subprocess(options, *task), tasks), strict=True))
    for way, words in ways.items():
        if way not in results:
            results[way] = {"options": words, **_joined([outcomes[way, fold] for fold in range(options.folds)])}
    compared = compare({way: [int(digit) for digit in result["right"]] for way, result in results.items()})
    return {way: {**result, **compared[way]} for way, result in results.items()}


def _joined(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one way did on all folds; `right` as a text of zeros and ones."""
    right = "".join(str(digit) for fold in folds for digit in fold["right"])
    seconds = round(sum(fold["seconds"] for fold in folds) / len(folds))
    return {"epochs": folds[0]["epochs"], "seconds_per_training": seconds, "rows": len(right), "right": right}


def _known(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Ways that the report judged before, if it is of the same data and folds; else none.

    Raises:
        InvalidSettings: the file holds something else, which is not written over.
    """
    if not options.output or not options.output.exists():
        return {}
    try:
        report = json.loads(options.output.read_text(encoding="utf-8"))
        measured = (report["data"], report["validation"], report["folds"], report.get("cut"))
        ways: dict[str, dict[str, Any]] = report["ways"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidSettings(f"{options.output} is no report of this command; give --output another name") from None
    return ways if measured == (_names(options.data), _names(options.validation), options.folds, CUT) else {}


def _names(files: Sequence[str]) -> list[str]:
    """The last two parts of each path: how a data set is called does not depend on where it lies."""
    return ["/".join(Path(file).parts[-2:]) for file in files]


def judge_in_subprocess(options: argparse.Namespace, way: str, fold: int) -> dict[str, Any]:
    words = ["scripts.training.cross_validation", *options.data, "--folds", str(options.folds), "--fold", str(fold)]
    words += ["--validation", *options.validation] if options.validation else []
    words += ["--way", way, dict(options.way)[way]]
    outcome = run_module(words, way, {"OMP_NUM_THREADS": str(max(1, available_cores() // options.at_once))})
    rows = len(outcome["right"])
    print(f"fold {fold + 1}, {way}: {sum(outcome['right']) / rows:.4f} of {rows} rows, {outcome['seconds']:.0f} s", flush=True)
    return outcome


def recipe_values(data: Sequence[str], validation: Sequence[str], words: str) -> dict[str, Any]:
    """Keys of a recipe from options as `hooper train` takes them.

    Raises:
        InvalidSettings: an option is unknown, or decides which rows are judged.
    """
    values = parse_options(recipe_options(), shlex.split(words))
    for key in FIXED_KEYS:
        if key in values:
            raise InvalidSettings(f"a way takes no --{key.replace('_', '-')}: all ways are judged on the same rows")
    return {**values, "data": list(data), "validation": list(validation)}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="cross_validation", description="Which options of `hooper train` learn better.")
    options.add_argument("data", nargs="+", help="labelled texts, one label each, as for `hooper train`")
    options.add_argument("--validation", nargs="+", default=[], help="what `hooper train` is given to hold out: left out here")
    options.add_argument(
        "--way", nargs=2, action="append", metavar=("NAME", "OPTIONS"), help="options of `hooper train`; repeatable"
    )
    options.add_argument("--folds", type=int, default=4, help="parts that the training rows are cut into")
    options.add_argument("--at-once", type=int, default=1, help="trainings side by side, which share the cores")
    options.add_argument("--fold", type=int, help="judge the one way on this fold here, and print it")
    options.add_argument("--output", type=Path, help="file for the report")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options, load = parser().parse_args(arguments), os.getloadavg()
    options.way = options.way or [["default", ""]]
    try:
        if options.fold is not None:
            values = recipe_values(options.data, options.validation, options.way[0][1])
            print(json.dumps(judge(values, options.fold, options.folds)))
            return 0
        ways = measure(options, _known(options))
    except HooperError as error:
        print(f"cross_validation: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    for way, result in ways.items():
        print(f"{way}: {result['accuracy']:.4f}, {result['better_by']:+.4f} ± {result['standard_error']:.4f}")
    if options.output:
        report = {
            "data": _names(options.data),
            "validation": _names(options.validation),
            "folds": options.folds,
            "cut": CUT,
            **report_head(load),
            "ways": ways,
        }
        write_json(options.output, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
