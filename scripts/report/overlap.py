"""Evaluated rows that the model was trained on: how many, which, and the figures without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.manifest import Manifest
from scripts.tasks.spec import ReportInput
from scripts.training.data import Example
from scripts.training.trained_rows import UNKNOWN, Part, find

MAX_PLACES = 200
"""Rows that were trained on whose places a report lists."""


@dataclass(frozen=True)
class Overlap:
    """Of each row, where training had it; none where that is not known."""

    parts: Sequence[Part] | None
    reason: str = ""
    """Why it is not known, as a sentence without a full stop."""

    @classmethod
    def of(cls, manifest: Manifest, examples: Sequence[Example], runs: Path) -> Overlap:
        """
        Args:
            runs: folder of the runs, where trainings keep their records.
        """
        record = find(manifest, runs)
        if record is None:
            return cls(None, UNKNOWN.format(runs=runs))
        return cls(record.parts_of(example.item for example in examples))

    def count(self, part: Part) -> int:
        return sum(entry == part for entry in self.parts or [])

    @property
    def untrained(self) -> list[int]:
        """Indices of the rows that were not trained on."""
        return [index for index, part in enumerate(self.parts or []) if part != "train"]

    @property
    def sentence(self) -> str:
        if self.parts is None:
            return self.reason
        trained, held_out = self.count("train"), self.count("validation")
        total = f"{len(self.parts):,} rows"
        if not trained:
            text = f"none of the {total} was trained on"
        else:
            verb = "was" if trained == 1 else "were"
            text = f"{trained:,} of the {total} {verb} trained on: metrics on all rows are too good"
        return f"{text}; {held_out:,} {'was' if held_out == 1 else 'were'} held out in training" if held_out else text


def overlap_sections(overlap: Overlap, evaluated: ReportInput) -> dict[str, Any]:
    """What a report says of them: `trained_on`, with the headline of the other rows where there are both kinds."""
    if overlap.parts is None:
        return {"trained_on": {"known": False, "summary": overlap.sentence}}
    examples = evaluated.examples
    places = [example.where for example, part in zip(examples, overlap.parts, strict=True) if part == "train"]
    section: dict[str, Any] = {
        "known": True,
        "summary": overlap.sentence,
        "rows": len(places),
        "held_out_rows": overlap.count("validation"),
        "where": places[:MAX_PLACES],
    }
    others = overlap.untrained
    if places and others:
        answers = [evaluated.predictions.answers[index] for index in others]
        figures = evaluated.training.evaluate(answers, [examples[index] for index in others], evaluated.task_options)
        section["headline_without"] = figures["headline"]
    return {"trained_on": section}
