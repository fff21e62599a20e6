"""What may be wrong with written texts, told without references: copying, repetition, numbers and names from nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

SIZE = 4
"""Words of a run that counts as copied or repeated."""
NUM_LISTED = 20
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_DIGITS = re.compile(r"\d+")
_INNER_NAME = re.compile(r"(?<=[\w,;:)] )[A-ZÀ-ÖØ-ÞА-Я][\w'’-]+")
"""A word in capitals that does not begin a sentence."""


@dataclass(frozen=True, slots=True)
class CheckedText:
    """A text, what it was written from, and what a person wrote."""

    where: str
    source: str
    text: str
    reference: str


def words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def runs(text: str) -> list[tuple[str, ...]]:
    """All runs of four words, in order."""
    spelled = words(text)
    return list(zip(*(spelled[start:] for start in range(SIZE)), strict=False))


def copied_share(source: str, text: str) -> float | None:
    """Share of the text's runs of four words that stand in the source; None: it has none."""
    own = runs(text)
    in_source = set(runs(source))
    return sum(run in in_source for run in own) / len(own) if own else None


def repeated_share(source: str, text: str) -> float | None:
    """Share of the text's runs of four words that stood in it before; None: it has none."""
    own = runs(text)
    return 1 - len(set(own)) / len(own) if own else None


def unsupported_numbers(source: str, text: str) -> list[str]:
    """Numbers of the text that the source lacks, however they are grouped: `1,250` and `1.250` are the same."""
    known = set(_DIGITS.findall(source)) | {_plain(number) for number in _NUMBER.findall(source)}
    return [
        number
        for number in _NUMBER.findall(text)
        if _plain(number) not in known and not all(part in known for part in _DIGITS.findall(number))
    ]


def unsupported_names(source: str, text: str) -> list[str]:
    """Words in capitals within a sentence of the text that the source lacks in any spelling of case."""
    known = set(words(source))
    return [name for name in _INNER_NAME.findall(text) if not set(words(name)) <= known]


def _plain(number: str) -> str:
    return "".join(_DIGITS.findall(number))


Finding = Callable[[str, str], list[str]]


def check_written(rows: Sequence[CheckedText], has_names: bool) -> dict[str, Any]:
    """
    Args:
        rows: at least one.
        has_names: whether words in capitals are names, as they are not in German or in a translation.

    Returns:
        `figures`: each with its name, and what it is of the texts and of the references; and lists of what the sources lack.
    """
    findings: dict[str, Finding] = {"numbers": unsupported_numbers, **({"names": unsupported_names} if has_names else {})}
    figures = [
        _figure("runs of four words copied from the source", rows, copied_share),
        _figure("runs of four words that repeat earlier ones", rows, repeated_share),
        _figure("empty texts", rows, lambda source, text: float(not text.strip())),
    ]
    lists: dict[str, list[dict[str, Any]]] = {}
    for kind, find in findings.items():
        figures.append(_figure(f"texts with {kind} that the source lacks", rows, partial(_has_any, find)))
        found = [{"where": row.where, "text": row.text, kind: own} for row in rows if (own := find(row.source, row.text))]
        lists[kind] = found[:NUM_LISTED]
    length = [len(words(row.text)) / max(1, len(words(row.reference))) for row in rows]
    return {"figures": figures, "length_ratio": round(sum(length) / len(length), 3), **lists}


def _has_any(find: Finding, source: str, text: str) -> float:
    return float(bool(find(source, text)))


def _figure(name: str, rows: Sequence[CheckedText], measure: Callable[[str, str], float | None]) -> dict[str, Any]:
    return {
        "name": name,
        "texts": _mean([measure(row.source, row.text) for row in rows]),
        "references": _mean([measure(row.source, row.reference) for row in rows]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
