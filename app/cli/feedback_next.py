"""`hooper feedback next`."""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import json
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.cli.ask import ROUTES, Asker, Route, asking
from app.cli.groups import in_groups
from app.cli.inputs import STANDARD_INPUT, Asked, Shape, check, read
from app.cli.parser import Parser, add_settings
from app.cli.predict import SETTINGS
from app.cli.progress import Progress
from app.cli.request import Wish, add_model_options, wish_from
from app.cli.uncertainty import Candidate, Measure, uncertainty, varied
from app.core.correction import canonical
from app.core.errors import SetupError
from app.core.feedback import read as read_feedback
from app.core.types import TaskName
from app.serving.deployment import offline_predict

EXAMPLES = """  hooper feedback next --model sentiment texts.txt > to_label.jsonl
  hooper feedback next --model topics --count 100 --by entropy unlabelled.csv
  hooper feedback next --model sentiment --feedback feedback.db texts.txt     passes over what was corrected already

FILE is read as `hooper predict` reads it. Each line is a text with an empty label, what the model would say, and how unsure it
is, between 0 and 1: fill the labels in, and train with the file as a further source, or send it to /v1/feedback.
"""
GROUP, GROUP_CHARACTERS = 256, 500_000
"""Texts that are answered together."""
KEPT = 20
"""Canaries that are remembered for each text that is wanted: some are alike."""
ANSWERS = 5
"""Answers to a question that are compared."""


def add_options(parser: Parser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="unlabelled texts; `-`: standard input")
    add_model_options(parser)
    parser.add_argument("--count", type=int, default=50, metavar="N", help="how many texts to list (default: 50)")
    parser.add_argument(
        "--by", choices=typing.get_args(Measure), default="margin",
        help="how to tell what the model is least sure of: the distance of its two best answers, the entropy of all scores, or"
        " the best score alone (default: margin)",
    )  # fmt: skip
    add_settings(parser, (*SETTINGS, "feedback"))


def run(options: argparse.Namespace) -> int:
    if options.count < 1:
        raise SetupError(f"--count is {options.count}; it must be at least 1")
    wish = wish_from(options, _route, [])
    sources = options.files or [STANDARD_INPUT]
    check(sources)
    known = _corrected(wish)
    wishes = {"top_k": ANSWERS} if wish.task == "question-answering" else {}
    with asking(wish.artefact, wish.route, wish.settings, wishes) as asker:
        search = _Search(wish, options.by, known)
        pool = max(1000, KEPT * options.count)
        best = heapq.nlargest(pool, search.candidates(asker, sources), key=lambda one: one.uncertainty)
    for one in varied(best, options.count):
        print(json.dumps(one.line, ensure_ascii=False))
    search.tell()
    return 1 if search.num_failed else 0


def _route(task: TaskName) -> Route:
    if task == "summarization":
        raise SetupError("a summary does not tell how sure it is: choose a model for labels or for answers")
    return dataclasses.replace(ROUTES[task], predict=offline_predict)


def _corrected(wish: Wish) -> frozenset[str]:
    """The items whose right answer is known."""
    if not wish.settings.feedback:
        return frozenset()
    return frozenset(one.key for one in read_feedback(Path(wish.settings.feedback), wish.artefact.manifest.name))


class _Search:
    """Asks the model about every text."""

    def __init__(self, wish: Wish, measure: Measure, known: frozenset[str]) -> None:
        self._shape: Shape = wish.shape
        self._measure, self._known = measure, known
        self._is_multi = wish.artefact.manifest.task_options.get("problem_type") == "multi_label_classification"
        self.num_asked = self.num_failed = self.num_known = 0

    def candidates(self, asker: Asker, sources: list[str]) -> Iterator[Candidate]:
        progress = Progress()
        try:
            for source in sources:
                fresh = (one for one in read(source, self._shape) if not self._is_known(one))
                for group in in_groups(fresh, GROUP, GROUP_CHARACTERS):
                    yield from self._asked(asker, group, len(sources) > 1)
                    progress.tell(self.num_asked, self.num_failed)
        finally:
            progress.clear()

    def tell(self) -> None:
        """What was passed over."""
        said = []
        if self.num_failed:
            said.append(f"{self.num_failed:,} of {self.num_asked:,} texts could not be answered")
        if self.num_known:
            said.append(f"{self.num_known:,} were corrected already")
        if said:
            print(f"hooper feedback next: {', and '.join(said)}", file=sys.stderr)

    def _is_known(self, one: Asked) -> bool:
        is_known = isinstance(one.fields, Mapping) and bool(self._known) and canonical(one.fields) in self._known
        self.num_known += is_known
        return is_known

    def _asked(self, asker: Asker, group: list[Asked], tells_file: bool) -> Iterator[Candidate]:
        for one, answer in zip(group, asker.ask(group), strict=True):
            self.num_asked += 1
            if "error" in answer or not isinstance(one.fields, Mapping):
                self.num_failed += 1
                continue
            unsure = uncertainty(answer, self._measure, self._is_multi)
            line = {**one.fields, **_suggested(answer, self._is_multi), "uncertainty": round(unsure, 6)}
            line |= {"file": one.source} if tells_file else {}
            line |= {"line": one.line} | ({"id": one.id} if one.id is not None else {})
            yield Candidate(line, list(one.fields.values()), unsure)


def _suggested(answer: Mapping[str, Any], is_multi: bool) -> dict[str, Any]:
    """An empty label, and what the model would say."""
    if "answers" in answer:
        best = answer["answers"][0] if answer["answers"] else {"answer": "", "score": answer["no_answer_score"]}
        return {"answer": None, "predicted": best["answer"], "score": best["score"]}
    labels = answer["labels"]
    said = [one["label"] for one in labels if one["score"] > 0.5] if is_multi else labels[0]["label"]
    return {"label": None, "predicted": said, "score": labels[0]["score"]}
