"""Neutral texts of many lengths: what a checkpoint is compared on where nobody gives texts of its own kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.core.types import TaskName
from scripts.tasks.base import OfflineTask
from scripts.training.load_data import Example

SENTENCES = (
    "This was exactly what I hoped for, thank you.",
    "It broke after two days and nobody answers my messages.",
    "Where can I find the opening hours?",
    "The meeting has been moved to Thursday at noon.",
    "The old library burned down in 1897.",
    "A new library opened in 1903, and a museum was added in 1911.",
    "The bridge over the Elbe was repaired by Anna Schmidt and her brothers.",
    "Engineers had warned for years that its roof could fall.",
    "About forty traders will move to a tent on the station square by March.",
    "Please send the invoice to the address below before Friday.",
    "The council expects the repair to cost four million euros.",
    "My card was charged twice and I would like the money back.",
    "Water boils at a lower temperature in the mountains.",
    "She scored twice in the last ten minutes of the match.",
    "The patient was given 20 mg and slept through the night.",
    "Shares fell by three percent after the report.",
    "I have never been so bored in my life.",
    "What a lovely evening, and what a wonderful film!",
    "Ünïcödé, 数字 and emoji 🙂 are text too.",
    "def answer(): return 42",
    "no",
    "OK, THANKS!!!",
    "Das Wetter war schön, und wir gingen am See spazieren.",
    "Il fait trop chaud pour travailler aujourd'hui.",
)
QUESTIONS = ("When did the library open?", "Who repaired the bridge?", "How much will it cost?", "What was moved to Thursday?")
JOINED = (2, 3, 5, 8, 13)
LONG = 60
"""Sentences of the longest probe: more than most encoders read at once."""


def probes(offline: OfflineTask, task: TaskName) -> list[Example]:
    """Items of the task, short and long, alone and in pairs; their targets mean nothing."""
    fields = {"text-classification": _classified, "question-answering": _asked, "summarization": _summarized}[task]()
    return [Example(offline.item(one), None, "probes", f"probe {number}") for number, one in enumerate(fields, start=1)]


def _texts() -> Iterator[str]:
    """Sentences, and runs of them that begin at different places."""
    yield from SENTENCES
    for count in JOINED:
        for start in range(0, len(SENTENCES), 6):
            yield " ".join((SENTENCES * 2)[start : start + count])
    yield " ".join((SENTENCES * 3)[:LONG])


def _classified() -> Iterator[dict[str, Any]]:
    for text in _texts():
        yield {"text": text}
    for first, second in zip(SENTENCES[:8], SENTENCES[8:16], strict=True):
        yield {"text": first, "text_pair": second}


def _asked() -> Iterator[dict[str, Any]]:
    for number, text in enumerate(_texts()):
        yield {"question": QUESTIONS[number % len(QUESTIONS)], "context": text}


def _summarized() -> Iterator[dict[str, Any]]:
    for text in _texts():
        yield {"text": text}
