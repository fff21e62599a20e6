"""Mutation: how many small errors, put on purpose into the scheduler and into the layout of rows, the unit tests notice.

    python -m scripts.reliability.mutation --output docs/measurements/mutation.json

Runs mutmut on a copy of the tree in `mutants/`; what it changes and which tests it asks stands in pyproject.toml. A mutant
counts as noticed when a test fails, or when the tests take more than six times their usual time and a minute. Every other one
counts against the tests, also where `mutation_judged.toml` says why nobody could notice it. Ends with 1 below 90 %.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from app.runtime.providers import available_cores
from scripts.bench.report import markdown_table, measurement_parser, run_measurement
from scripts.bench.service import run_program

MIN_SCORE = 0.9
NOTICED = ("killed", "timeout")
COPY = Path("mutants")
JUDGED = Path(__file__).with_name("mutation_judged.toml")
RESULT_LINE = re.compile(r"^\s*(?P<mutant>[\w.ǁ]+__mutmut_\d+): (?P<status>[a-z ]+)$", re.MULTILINE)
MUTANT_NAME = re.compile(r"(?P<module>.+)\.x(?:_|ǁ(?P<owner>\w+)ǁ)(?P<function>\w+)__mutmut_\d+")


@dataclass(frozen=True, slots=True)
class MutantChange:
    """What one mutant is: the lines that were replaced, in one function."""

    where: str
    was: str
    became: str


def statuses_of(results: str) -> dict[str, str]:
    """The status of each mutant, from the lines of `mutmut results`."""
    return {line["mutant"]: line["status"] for line in RESULT_LINE.finditer(results)}


def place_of(mutant: str) -> tuple[str, str]:
    """Module and function of a mutant, from the name that mutmut gives it."""
    parts = MUTANT_NAME.fullmatch(mutant)
    if parts is None:
        raise SetupError(f"mutmut named a mutant {mutant}, which is not understood")
    return parts["module"], ".".join(filter(None, (parts["owner"], parts["function"])))


def change_of(mutant: str, diff: str) -> MutantChange:
    """From the lines of `mutmut show`."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was, became = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return MutantChange(".".join(place_of(mutant)), was, became)


def judged_changes(file: Path = JUDGED) -> dict[MutantChange, str]:
    """Why nobody notices a change, for those that somebody has looked at."""
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("judged", [])
    return {MutantChange(entry["where"], entry["was"], entry["became"]): entry["because"] for entry in entries}


def scores(statuses: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """How many mutants each module has and what became of them, and all together."""

    def score(of_module: Iterable[str]) -> dict[str, Any]:
        counts = Counter(of_module)
        total, noticed = counts.total(), sum(counts[status] for status in NOTICED)
        return {
            "mutants": total, "killed": counts["killed"], "timeout": counts["timeout"], "survived": total - noticed,
            "score": round(noticed / total, 4) if total else 0.0,
        }  # fmt: skip

    modules: dict[str, list[str]] = {}
    for mutant, status in statuses.items():
        modules.setdefault(place_of(mutant)[0], []).append(status)
    return {name: score(of_module) for name, of_module in sorted(modules.items())} | {"all": score(statuses.values())}


def complaints(modules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as promised."""
    return [
        f"{name}: the tests notice {module['score']:.1%} of {module['mutants']} mutants; at least {MIN_SCORE:.0%} were promised"
        for name, module in modules.items()
        if module["score"] < MIN_SCORE
    ]


def mutmut(*arguments: str) -> str:
    """What the command prints.

    Raises:
        SetupError: it is not installed, or it failed.
    """
    program = Path(sys.executable).with_name("mutmut")
    if not program.is_file():
        raise SetupError("mutmut is not installed here; run `make mutation-test`")
    return run_program([program, *arguments], f"mutmut {arguments[0]}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The scores, and each mutant that was not noticed."""

    def survivors_of(statuses: Mapping[str, str]) -> list[str]:
        return [mutant for mutant, status in statuses.items() if status not in NOTICED]

    again = survivors_of(statuses_of(mutmut("results", "--all", "true"))) if options.again else []
    if COPY.exists() and not options.again:  # mutmut keeps its results, also when the tests have changed since
        shutil.rmtree(COPY)
    (COPY / "mutmut-stats.json").unlink(missing_ok=True)  # which tests reach what: found out anew in either case
    began = time.monotonic()
    mutmut("run", "--max-children", str(options.children), *again)
    seconds = round(time.monotonic() - began)
    statuses = statuses_of(mutmut("results", "--all", "true"))
    modules, reasons, survivors = scores(statuses), judged_changes(), []
    for mutant in survivors_of(statuses):
        change = change_of(mutant, mutmut("show", mutant))
        survivors.append({**asdict(change), "status": statuses[mutant], "because": reasons.get(change, "not judged")})
    rows = [[name, *module.values()] for name, module in modules.items()]
    print("\n".join(markdown_table(["module", *modules["all"]], rows)), file=sys.stderr)
    return {
        "tool": f"mutmut {version('mutmut')}", "seconds": seconds, "only_survivors_again": options.again,
        "modules": modules, "survivors": survivors, "complaints": complaints(modules),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.reliability.mutation", __doc__)
    parser.add_argument("--children", type=int, default=available_cores(), help="mutants that are tried at a time")
    parser.add_argument("--again", action="store_true", help="try only those that were not noticed, after a test has come")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
