"""How well sentences are told apart, beside other splitters, on cases with boundaries drawn by hand:
`python -m scripts.bench.sentence_boundaries`.

The cases lie in `scripts/bench/sentences`: language, what is hard, and a text with `‖` at each boundary. `tuned.tsv` was there
while the tables of `app.tasks.sentences` were written; `kept_aside.tsv` was not looked at. pysbd and syntok are measured where
they are installed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from app.tasks.sentences import sentences

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
class Case:
    language: str
    kind: str
    text: str
    sentences: Sequence[str]


def cases(name: str) -> list[Case]:
    """Those of a file."""
    found = []
    for line in (CASES / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        language, kind, drawn = line.split("\t")
        drawn = drawn.replace("\\n", "\n")
        text = drawn.replace(f" {BOUNDARY} ", " ").replace(BOUNDARY, "")
        found.append(Case(language, kind, text, [part.strip() for part in drawn.split(BOUNDARY)]))
    return found


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
    try:
        pysbd = import_module("pysbd")
    except ImportError:
        print("pysbd is not installed: pip install pysbd")
    else:
        yield "pysbd", lambda text, language: pysbd.Segmenter(language=language, clean=False).segment(text)
    try:
        syntok = import_module("syntok.segmenter")
    except ImportError:
        print("syntok is not installed: pip install syntok")
    else:
        yield (
            "syntok",
            lambda text, _: [
                "".join(token.spacing + token.value for token in sentence)
                for paragraph in syntok.process(text)
                for sentence in paragraph
            ],
        )


def is_right(splitter: Splitter, case: Case) -> bool:
    found = [part.strip() for part in splitter(case.text, case.language)]
    return [part for part in found if part] == case.sentences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true", help="list what hooper splits otherwise, of the cases tuned on")
    options = parser.parse_args()
    for name in SETS:
        of_language = defaultdict(list)
        for case in cases(name):
            of_language[case.language if case.language in LARGEST else "other"].append(case)
        print(f"\n| {name}.tsv | " + " | ".join((*(f"{key} ({len(own)})" for key, own in of_language.items()), "all")) + " |")
        print("|---" * (len(of_language) + 2) + "|")
        for label, splitter in splitters():
            right = [sum(is_right(splitter, case) for case in own) for own in of_language.values()]
            print(f"| {label} | " + " | ".join(map(str, right)) + f" | {sum(right) / len(cases(name)):.1%} |")
    if options.wrong:
        for case in cases("tuned"):
            if not is_right(hooper, case):
                print(f"{case.language} {case.kind:14} {hooper(case.text, case.language)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
