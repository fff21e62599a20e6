"""How well sentences are split, compared with other splitters, on cases with boundaries drawn by hand:
`python -m scripts.peers.sentence_boundaries`.

The cases lie in `scripts/peers/sentences`: language, what is hard, and a text with `‖` at each boundary. `tuned.tsv` was there
while the tables of `app.tasks.sentences` were written; `kept_aside.tsv` was not looked at. pysbd and syntok are measured where
they are installed (`pip install pysbd syntok`).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from app.tasks.sentences import sentences
from scripts.bench.report import markdown_table

CASES = Path(__file__).parent / "sentences"
SETS = ("tuned", "kept_aside")
BOUNDARY = "‖"
LARGEST = ("en", "de", "fr", "es", "zh", "ja")
"""Languages with a column of their own."""
UNKNOWN = "xx"
"""Has no table, and is English to `sentencex`: how Hooper split before it had tables."""
Splitter = Callable[[str, str], Sequence[str]]
"""From text and language to sentences."""


@dataclass(frozen=True, slots=True)
class BoundaryCase:
    language: str
    kind: str
    text: str
    sentences: Sequence[str]


def cases(name: str) -> list[BoundaryCase]:
    """Those of a file."""
    texts = []
    for line in (CASES / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        language, kind, source = line.split("\t")
        source = source.replace("\\n", "\n")
        text = source.replace(f" {BOUNDARY} ", " ").replace(BOUNDARY, "")
        texts.append(BoundaryCase(language, kind, text, [part.strip() for part in source.split(BOUNDARY)]))
    return texts


def hooper(text: str, language: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text, language)]


def splitters() -> Iterator[tuple[str, Splitter]]:
    """Hooper's, and what is installed of others."""
    yield "hooper", hooper
    yield "hooper, English for all", lambda text, _: hooper(text, "en")
    yield "hooper, English, no table", lambda text, _: hooper(text, UNKNOWN)
    sentencex = import_module("sentencex")
    yield "sentencex", lambda text, language: sentencex.segment(language, text)
    yield "sentencex, English for all", lambda text, _: sentencex.segment("en", text)
    if find_spec("pysbd"):
        pysbd = import_module("pysbd")
        yield "pysbd", lambda text, language: pysbd.Segmenter(language=language, clean=False).segment(text)
    if find_spec("syntok"):
        process = import_module("syntok.segmenter").process
        yield (
            "syntok",
            lambda text, _: [
                "".join(token.spacing + token.value for token in sentence)
                for paragraph in process(text)
                for sentence in paragraph
            ],
        )


def is_right(splitter: Splitter, case: BoundaryCase) -> bool:
    parts = [part.strip() for part in splitter(case.text, case.language)]
    return [part for part in parts if part] == case.sentences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true", help="list what hooper splits otherwise, of the cases tuned on")
    options = parser.parse_args()
    for name in SETS:
        by_language = defaultdict(list)
        for case in cases(name):
            by_language[case.language if case.language in LARGEST else "other"].append(case)
        rows = []
        for label, splitter in splitters():
            right = [sum(is_right(splitter, case) for case in of_language) for of_language in by_language.values()]
            rows.append([label, *right, f"{sum(right) / len(cases(name)):.1%}"])
        titles = [f"{language} ({len(of_language)})" for language, of_language in by_language.items()]
        print("\n".join(["", *markdown_table([f"{name}.tsv", *titles, "all"], rows)]))
    if options.wrong:
        for case in cases("tuned"):
            if not is_right(hooper, case):
                print(f"{case.language} {case.kind:14} {hooper(case.text, case.language)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
