"""`hooper feedback next`: which texts a model is least sure of, and which of those are alike.

The three measures are those of uncertainty sampling in Settles, "Active Learning Literature Survey" (2009), section 3.1, each
between 0 (sure) and 1.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli.local_model import LocalModel, ModelChoice, ModelRequest, model_choice, model_options, opened
from app.cli.options import COMPUTING, with_settings
from app.cli.pipeline import chunks
from app.cli.predict import Files
from app.cli.terminal import Progress
from app.core.command_line import program, spread
from app.core.correction import canonical
from app.core.errors import SetupError
from app.core.feedback import read as read_feedback
from app.data import Input, read
from app.data.items import check_sources
from app.data.sources import STANDARD_INPUT
from app.settings import Settings

Measure = Literal["margin", "entropy", "least-confidence"]
ALIKE = 0.7
"""Shared words, of all words of two texts, from which they say the same."""
_WORD = re.compile(r"\w+")
CHUNK, CHUNK_CHARACTERS = 256, 500_000
"""Texts that are answered together."""
KEPT = 20
"""Candidates that are remembered for each text that is wanted: some are alike."""
ANSWERS = 5
"""Answers to a question that are compared."""


@program(
    "hooper feedback next",
    """  hooper feedback next --model sentiment texts.txt > to_label.jsonl
  hooper feedback next --model topics --count 100 --by entropy unlabelled.csv
  hooper feedback next --model sentiment --feedback feedback.db texts.txt     passes over what was corrected already

FILE is read as `hooper predict` reads it. Each line is a text with an empty label, what the model would say, and how unsure it
is, between 0 and 1: fill the labels in, and train with the file as a further source, or send it to /v1/feedback.
""",
)
@with_settings(*COMPUTING, "feedback")
@spread("choice", model_options(), model_choice)
def feedback_next(
    settings: Settings,
    choice: ModelChoice,
    files: Files = None,
    count: Annotated[int, typer.Option(metavar="N", help="how many texts to list")] = 50,
    by: Annotated[
        Measure,
        typer.Option(
            help="how to tell what the model is least sure of: the distance of its two best answers, the entropy of all scores,"
            " or the best score alone"
        ),
    ] = "margin",
) -> int:
    """List the texts that are most worth labelling next."""
    if count < 1:
        raise SetupError(f"--count is {count}; it must be at least 1")
    request = choice.request("bulk", {}, settings)
    if not request.spec.table.ranked:
        raise SetupError("a summary does not tell how sure it is: choose a model for labels or for answers")
    if getattr(request.spec.options(), "top_k", None) is not None:  # it would give the best one alone
        request = replace(request, options={"top_k": ANSWERS})
    sources = files or [STANDARD_INPUT]
    check_sources(sources)
    search = _Search(request, by)
    with opened(request) as model:
        pool = max(1000, KEPT * count)
        best = heapq.nlargest(pool, search.candidates(model, sources), key=lambda candidate: candidate.uncertainty)
    for candidate in varied(best, count):
        print(json.dumps(candidate.line, ensure_ascii=False))
    search.report()
    return 1 if search.num_failed else 0


class _Search:
    """Asks the model about every text."""

    def __init__(self, request: ModelRequest, measure: Measure) -> None:
        self._schema, self._measure = request.schema, measure
        manifest, file = request.artefact.manifest, request.settings.feedback
        self._is_multi = manifest.task_options.get("problem_type") == "multi_label_classification"
        self._known = (
            frozenset(correction.key for correction in read_feedback(Path(file), manifest.name)) if file else frozenset()
        )
        self.num_done = self.num_failed = self.num_known = 0

    def candidates(self, model: LocalModel, sources: Sequence[str]) -> Iterator[Candidate]:
        progress = Progress()
        try:
            for source in sources:
                fresh = (item for item in read(source, self._schema) if not self._is_known(item))
                for chunk in chunks(fresh, CHUNK, CHUNK_CHARACTERS):
                    yield from self._candidates(model, chunk, len(sources) > 1)
                    progress.update(self.num_done, self.num_failed)
        finally:
            progress.clear()

    def report(self) -> None:
        """Say what was passed over."""
        notes = []
        if self.num_failed:
            notes.append(f"{self.num_failed:,} of {self.num_done:,} texts could not be answered")
        if self.num_known:
            notes.append(f"{self.num_known:,} were corrected already")
        if notes:
            print(f"hooper feedback next: {', and '.join(notes)}", file=sys.stderr)

    def _is_known(self, item: Input) -> bool:
        is_known = isinstance(item.fields, Mapping) and bool(self._known) and canonical(item.fields) in self._known
        self.num_known += is_known
        return is_known

    def _candidates(self, model: LocalModel, chunk: list[Input], with_file: bool) -> Iterator[Candidate]:
        for item, answer in zip(chunk, model.answer(chunk), strict=True):
            self.num_done += 1
            if "error" in answer or not isinstance(item.fields, Mapping):
                self.num_failed += 1
                continue
            unsure = uncertainty(answer, self._measure, self._is_multi)
            line = {**item.fields, **_suggested(answer, self._is_multi), "uncertainty": round(unsure, 6)}
            line |= {"file": item.source} if with_file else {}
            line |= {"line": item.line} | ({"id": item.id} if item.id is not None else {})
            yield Candidate(line, list(item.fields.values()), unsure)


def _suggested(answer: Mapping[str, Any], is_multi: bool) -> dict[str, Any]:
    """An empty label, and what the model would say."""
    if "answers" in answer:
        best = answer["answers"][0] if answer["answers"] else {"answer": "", "score": answer["no_answer_score"]}
        return {"answer": None, "predicted": best["answer"], "score": best["score"]}
    labels = answer["labels"]
    predicted = [label["label"] for label in labels if label["selected"]] if is_multi else labels[0]["label"]
    return {"label": None, "predicted": predicted, "score": labels[0]["score"]}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be worth labelling."""

    line: Mapping[str, Any]
    """What is printed of it."""
    texts: Sequence[str]
    uncertainty: float


def uncertainty(answer: Mapping[str, Any], measure: Measure, is_multi: bool = False) -> float:
    """How unsure an answer is.

    Args:
        answer: of `/v1/classify`, with all labels, or of `/v1/answer`.
        measure: one of Settles's.
        is_multi: any number of labels may hold: then the least sure of them decides.
    """
    of = MEASURES[measure]
    scores = [float(rank["score"]) for rank in answer.get("labels", answer.get("answers"))]
    if is_multi:
        return max(of(sorted((score, 1 - score), reverse=True), 2) for score in scores)
    if "answers" in answer:  # they are some of very many, and how many is not told
        scores = sorted([*scores, float(answer["no_answer_score"])], reverse=True)
    return of(scores, max(2, len(scores)))


def varied(candidates: Iterable[Candidate], count: int) -> Iterator[Candidate]:
    """The first `count` candidates of which no two are alike, in their order."""
    selected: list[list[frozenset[str]]] = []
    for candidate in candidates:
        if len(selected) == count:
            return
        words = [frozenset(_WORD.findall(text.casefold())) for text in candidate.texts]
        if not any(_are_alike(words, other) for other in selected):
            selected.append(words)
            yield candidate


def _are_alike(words: Sequence[frozenset[str]], other: Sequence[frozenset[str]]) -> bool:
    """In every field: two questions about one text are not alike, nor is one question about two texts."""
    return len(words) == len(other) and all(_overlap(a, b) >= ALIKE for a, b in zip(words, other, strict=True))


def _overlap(words: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index; 1 where neither has a word."""
    both = words | other
    return len(words & other) / len(both) if both else 1.0


def _margin(scores: Sequence[float], num_classes: int) -> float:
    return 1.0 - (scores[0] - (scores[1] if len(scores) > 1 else 0.0))


def _entropy(scores: Sequence[float], num_classes: int) -> float:
    return -sum(score * math.log(score) for score in scores if score > 0) / math.log(num_classes)


def _least_confidence(scores: Sequence[float], num_classes: int) -> float:
    return (1.0 - scores[0]) * num_classes / (num_classes - 1)


MEASURES: Mapping[Measure, Callable[[Sequence[float], int], float]] = {
    "margin": _margin,
    "entropy": _entropy,
    "least-confidence": _least_confidence,
}
"""From the scores, best first, and the number of classes."""
