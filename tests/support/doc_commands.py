"""Commands in the documents: found in their fences, run as a reader would, and compared with the output that is shown.

A fence ```console holds lines `$ command`, each followed by what it prints. It is run unless `<!-- not run: reason -->` stands
before it. In shown output a line `…` stands for any lines, `…` within a line for any text, and decimal numbers may differ a
little. A fence ```python holds a script; what it prints stands behind `# →` at the ends of its lines.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"(?P<before>[^\n]*\n)?[ ]*```(?P<kind>\w*)\n(?P<body>.*?)\n[ ]*```", re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_PRINTED = re.compile(r"# → (.*)$", re.MULTILINE)
NEAR = 0.05
"""How far a decimal number may be from the one that is shown: processors round differently, and training more so."""


@dataclass(frozen=True, slots=True)
class DocCommand:
    """A command, and the lines that the document shows of its output."""

    command: str
    output: Sequence[str]


def doc_commands(document: Path) -> list[DocCommand]:
    """The commands of a document that a test can run, in order."""
    found: list[DocCommand] = []
    for kind, body, before in _fences(document):
        if _NOT_RUN.search(before):
            continue
        if kind == "console":
            found += _commands(body)
        elif kind == "python":
            found.append(DocCommand(f"python - <<'END'\n{body}\nEND", _PRINTED.findall(body)))
    return found


def hooper_lines(document: Path) -> list[str]:
    """Every `hooper …` line of any shell fence, whether it can be run in a test or not."""
    found = []
    for kind, body, _ in _fences(document):
        if kind in ("console", "sh"):
            lines = [command.command for command in _commands(body)] if kind == "console" else _joined(body.splitlines())
            found += [line for line in lines if re.match(r"(\.venv/bin/)?hooper\b", line)]
    return found


def difference(output: str, expected: Sequence[str]) -> str | None:
    """Where printed output is not what is shown, or None."""
    lines = [line.rstrip() for line in output.splitlines()]
    position = 0
    skipping = False
    for line in expected:
        if line.strip() == "…":
            skipping = True
            continue
        if skipping:
            while position < len(lines) and not _alike(lines[position], line):
                position += 1
        if position >= len(lines) or not _alike(lines[position], line):
            return f"shown: {line}\nprinted: {lines[position] if position < len(lines) else 'nothing more'}"
        position, skipping = position + 1, False
    return None if skipping or position == len(lines) else f"printed, and not shown: {lines[position]}"


def _fences(document: Path) -> Iterator[tuple[str, str, str]]:
    for match in _FENCE.finditer(document.read_text(encoding="utf-8")):
        yield match["kind"], textwrap.dedent(match["body"]), match["before"] or ""


def _commands(body: str) -> Iterator[DocCommand]:
    command: str | None = None
    output: list[str] = []
    for line in _joined(body.splitlines()):
        if line.startswith("$ "):
            if command is not None:
                yield DocCommand(command, output)
            command, output = line[2:], []
        else:
            output.append(line.rstrip())
    if command is not None:
        yield DocCommand(command, output)


def _joined(lines: Sequence[str]) -> list[str]:
    """Lines with those that end in a backslash joined to the next."""
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def _alike(printed: str, line: str) -> bool:
    numbers = [float(number) for number in _NUMBER.findall(line)]
    parts = [re.escape(_NUMBER.sub("\0", part)) for part in line.rstrip().split("…")]
    pattern = ".*".join(part.replace(re.escape("\0"), f"({_NUMBER.pattern}|\\d+)") for part in parts)
    match = re.fullmatch(pattern, printed, re.DOTALL)
    return match is not None and all(
        abs(float(found) - number) <= NEAR for found, number in zip(match.groups(), numbers, strict=True)
    )
