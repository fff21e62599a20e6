"""Questions with their contexts and answers, read from SQuAD's forms, and hard negatives made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from app.core.fields import FieldSpec
from app.data import Record
from app.data.cells import in_lower_case, offset, plain, spelled, truth
from app.tasks.fields import ANSWER_COLUMNS
from app.tasks.question_answering.spec import SPEC
from app.tasks.question_answering.task import QuestionItem
from app.tasks.tokenizer import encodable
from scripts.training.columns import LABEL, Columns
from scripts.training.data import Broken, Dataset, Example
from scripts.training.data_checks import NUM_EXAMPLES, Check

ANSWER_NAMES = ("answers", "answer", "answer_text")
ANSWERS = FieldSpec(ANSWER_COLUMNS, required=False, description="answers")  # of questions without any there may be no column


MISPLACED = (
    "an answer without 'answer_start' stands several times in the context",
    "an answer stands in the context, but not at its 'answer_start'",
    "an answer does not stand in the context",
)
"""Why a row is broken whose answer is not where it is said to be."""


@dataclass(frozen=True, slots=True)
class Gold:
    """One annotator's answer: `context[start:end] == text`."""

    text: str
    start: int
    end: int


@dataclass
class Repair:
    """Places of answers that were not where they were said to be, or were not said; counted, to be told."""

    num_moved: int = 0
    num_first: int = 0

    @property
    def notes(self) -> list[str]:
        sentences = []
        if self.num_moved:
            sentences.append(
                f"{self.num_moved:,} answers are taken at the place where they stand that is nearest to their answer_start"
            )
        if self.num_first:
            sentences.append(
                f"{self.num_first:,} answers without a place stand several times and are taken where they first do"
            )
        return sentences


def parse(record: Record, source: str, repair: Repair | None = None, names: Columns | None = None) -> Example | Broken:
    """A question, its context and the answers: SQuAD's `answers` in either form, or a plain `answer`.

    Args:
        source: where it is from.
        names: the columns that hold the fields and the answers, where they are called otherwise.
        repair: None: an answer that does not stand where it is said to, or stands several times without a place, is a fault.
    """
    if record.broken:
        return Broken(record.where, record.broken)
    columns = {key: plain(value) for key, value in in_lower_case(record.columns).items()}
    if names:
        called = {"answers" if field == LABEL else field: column for field, column in names.of(source).items()}
        columns |= {field: plain(record.columns[column]) for field, column in called.items() if column in record.columns}
    name = "context" if names else SPEC.fields["context"].find(columns) or "context"
    for column in ("question", name):
        value = columns.get(column)
        if not isinstance(value, str) or not value.strip():
            return Broken(record.where, f"no text in column {column!r}")
        if not encodable(value):
            return Broken(record.where, "not valid Unicode")
    item = QuestionItem(columns["question"].strip(), columns[name])
    try:
        golds = tuple(_gold(item.context, *entry, repair) for entry in _answers_of(columns) if entry[0].strip())
    except ValueError as error:
        return Broken(record.where, str(error))
    return Example(item, golds, source, record.where)


def _answers_of(columns: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """Answer texts with their offsets, as far as they are given.

    Raises:
        ValueError: there are none in a form that is read, and why.
    """
    is_impossible = truth(columns.get("is_impossible"))
    if is_impossible is None:
        raise ValueError("'is_impossible' is neither true nor false")
    if is_impossible:
        return []
    cell = next((columns[name] for name in ANSWER_NAMES if name in columns), None)
    answers = _spelled(cell)
    if isinstance(answers, str):
        answers = {"text": answers, "answer_start": spelled(columns.get("answer_start"))}
    elif isinstance(answers, list) and "answer_start" in columns and all(isinstance(answer, str) for answer in answers):
        answers = {"text": answers, "answer_start": spelled(columns["answer_start"])}
    if isinstance(answers, dict):
        texts, starts = _spelled(answers.get("text")), spelled(answers.get("answer_start"))
        texts = [texts] if isinstance(texts, str) else texts or []
        starts = starts if isinstance(starts, list) else [starts] * len(texts)
        if len(starts) != len(texts):
            raise ValueError(f"{len(texts)} answers and {len(starts)} times 'answer_start'")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if answers is None and any(name in columns for name in ANSWER_NAMES):
        raise ValueError("no answer; where the context does not answer the question, write an empty list or 'is_impossible'")
    if not isinstance(answers, list):
        raise ValueError("no column 'answers' as SQuAD has it, nor 'answer'")
    answers = [{"text": answer} if isinstance(answer, str) else answer for answer in answers]
    if not all(isinstance(answer, dict) and isinstance(answer.get("text"), str) for answer in answers):
        raise ValueError("no column 'answers' as SQuAD has it, nor 'answer'")
    return [(answer["text"], _offset(answer.get("answer_start"))) for answer in answers]


def _spelled(cell: Any) -> Any:
    """Answers that a cell spells; what is no list of texts is an answer itself, such as `(1903, 1911)`."""
    value = spelled(cell)
    return cell if isinstance(value, list) and not all(isinstance(match, str | dict) for match in value) else value


def _offset(cell: Any) -> int | None:
    try:
        return offset(cell)
    except ValueError:
        raise ValueError("'answer_start' is no whole number") from None


def _gold(context: str, text: str, start: int | None, repair: Repair | None) -> Gold:
    """The answer where it is said to stand, or where it stands once.

    Raises:
        ValueError: it does not stand there, or it stands several times and no place is given.
    """
    lead = len(text) - len(text.lstrip())
    text = text.strip()
    begin = -1 if start is None else start + lead
    if begin >= 0 and context.startswith(text, begin):
        return Gold(text, begin, begin + len(text))
    places = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    if not places:
        raise ValueError(MISPLACED[2])
    if start is None:
        if len(places) > 1 and repair is None:
            raise ValueError(f"{MISPLACED[0]}; --repair-offsets takes the first")
        if repair is not None:
            repair.num_first += len(places) > 1
        return Gold(text, places[0], places[0] + len(text))
    if repair is None:
        raise ValueError(f"{MISPLACED[1]}; --repair-offsets takes the nearest place")
    repair.num_moved += 1
    begin = min(places, key=lambda place: abs(place - begin))
    return Gold(text, begin, begin + len(text))


def check_offsets(dataset: Dataset) -> Iterator[Check]:
    """Answers that are not where they are said to be."""
    rows = [row for row in dataset.broken if row.why.startswith(MISPLACED)]
    if rows:
        finding = f"{len(rows):,} answer{'s are' if len(rows) > 1 else ' is'} not at the given place in the context"
        places = tuple(row.where for row in rows[:NUM_EXAMPLES])
        yield Check("wrong-offsets", len(rows), finding, "left out; --repair-offsets takes the nearest place", places)


NEAREST = 5
"""The context is drawn from so many nearest ones: always the nearest would favour a few contexts."""


def unanswered(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """New examples without an answer, `share` times as many as there are; nearness is that of TF-IDF vectors.

    A context is passed over when it holds the text of an answer, whatever it means there.
    """
    generator = random.Random(seed)
    indices = generator.sample(range(len(examples)), min(len(examples), round(share * len(examples))))
    contexts = list(dict.fromkeys(example.item.context for example in examples))
    if not indices or len(contexts) < 2:
        return []
    vectors = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        matrix = vectors.fit_transform(contexts)  # (contexts, words)
    except ValueError:  # nothing but stop words
        return []
    negatives = []
    for index in indices:
        example = examples[index]
        near = (matrix @ vectors.transform([example.item.question]).T).toarray()[:, 0]  # (contexts,)
        ranked = np.argsort(-near, kind="stable")[: 4 * NEAREST]
        good = [contexts[i] for i in ranked if contexts[i] != example.item.context and not _holds(contexts[i], example)]
        if good:
            item = QuestionItem(example.item.question, generator.choice(good[:NEAREST]))
            negatives.append(replace(example, item=item, target=(), where=f"{example.where} (another context)"))
    return negatives


def _holds(context: str, example: Example) -> bool:
    lowered = context.lower()
    return any(gold.text.lower() in lowered for gold in example.target)
