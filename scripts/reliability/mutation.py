"""Mutation: how many small errors, put on purpose into the scheduler and into the layout of rows, the unit tests notice.

    python -m scripts.reliability.mutation --output docs/measurements/mutation.json

Runs mutmut on a copy of the tree in `mutants/`; what it changes and which tests it asks stands in pyproject.toml. A mutant
counts as noticed when a test fails, or when the tests take more than six times their usual time and a minute. Every other one
counts against the tests, also where `mutation_judged.toml` says why nobody could notice it. Ends with 1 below 90 %.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.core.errors import HooperError, SetupError
from app.runtime.providers import available_cores
from scripts.bench.report import describe_machine

FLOOR = 0.9
NOTICED = ("killed", "timeout")
COPY = Path("mutants")
STATS = COPY / "mutmut-stats.json"
JUDGED = Path(__file__).with_name("mutation_judged.toml")
OUTCOME = re.compile(r"^\s*(?P<mutant>[\w.ǁ]+__mutmut_\d+): (?P<status>[a-z ]+)$", re.MULTILINE)
NAME = re.compile(r"(?P<module>.+)\.x(?:_|ǁ(?P<owner>\w+)ǁ)(?P<function>\w+)__mutmut_\d+")


@dataclass(frozen=True, slots=True)
class Change:
    """What one mutant is: the lines that were replaced, in one function."""

    where: str
    was: str
    became: str


def outcomes(told: str) -> dict[str, str]:
    """What became of each mutant, from the lines of `mutmut results`."""
    return {one["mutant"]: one["status"] for one in OUTCOME.finditer(told)}


def place_of(mutant: str) -> tuple[str, str]:
    """Module and function of a mutant, from the name that mutmut gives it."""
    parts = NAME.fullmatch(mutant)
    if parts is None:
        raise SetupError(f"mutmut named a mutant {mutant}, which is not understood")
    return parts["module"], ".".join(filter(None, (parts["owner"], parts["function"])))


def change_of(mutant: str, diff: str) -> Change:
    """From the lines of `mutmut show`."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was, became = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Change(".".join(place_of(mutant)), was, became)


def judged(file: Path = JUDGED) -> dict[Change, str]:
    """Why nobody notices a change, for those that somebody has looked at."""
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("judged", [])
    return {Change(one["where"], one["was"], one["became"]): one["because"] for one in entries}


def figures(statuses: Iterable[str]) -> dict[str, Any]:
    """How many mutants there were, what became of them, and the share that was noticed."""
    counted = Counter(statuses)
    noticed = sum(counted[one] for one in NOTICED)
    return {
        "mutants": counted.total(),
        "killed": counted["killed"],
        "timeout": counted["timeout"],
        "survived": counted.total() - noticed,
        "score": round(noticed / counted.total(), 4) if counted else 0.0,
    }


def by_module(became: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The figures of each module, and of all together."""
    modules: dict[str, list[str]] = {}
    for mutant, status in became.items():
        modules.setdefault(place_of(mutant)[0], []).append(status)
    return {name: figures(statuses) for name, statuses in sorted(modules.items())} | {"all": figures(became.values())}


def table(modules: Mapping[str, Mapping[str, Any]]) -> str:
    """What a person reads."""
    head = f"{'module':<26}{'mutants':>9}{'killed':>9}{'timeout':>9}{'survived':>9}{'score':>9}\n"
    return head + "".join(
        f"{name:<26}{one['mutants']:>9}{one['killed']:>9}{one['timeout']:>9}{one['survived']:>9}{one['score']:>9.1%}\n"
        for name, one in modules.items()
    )


def mutmut(*arguments: str, is_told: bool = True) -> str:
    """What the command says, or nothing where it says it to the terminal.

    Raises:
        SetupError: it is not installed, or it failed.
    """
    command = Path(sys.executable).with_name("mutmut")
    if not command.is_file():
        raise SetupError("mutmut is not installed here; run `make mutation-test`")
    ran = subprocess.run([command, *arguments], stdout=subprocess.PIPE if is_told else None, text=True, check=False)
    if ran.returncode:
        raise SetupError(f"mutmut {arguments[0]} ended with {ran.returncode}")
    return ran.stdout or ""


def results() -> tuple[dict[str, str], list[str]]:
    """What became of each mutant, and those that were not noticed."""
    became = outcomes(mutmut("results", "--all", "true"))
    return became, [mutant for mutant, status in became.items() if status not in NOTICED]


def measure(num_children: int, is_again: bool) -> dict[str, Any]:
    """The figures, and each mutant that was not noticed."""
    mutants = results()[1] if is_again else []
    if COPY.exists() and not is_again:  # mutmut keeps what it found, also when the tests have changed since
        shutil.rmtree(COPY)
    STATS.unlink(missing_ok=True)  # which tests reach what: found out anew in either case
    began = time.monotonic()
    mutmut("run", "--max-children", str(num_children), *mutants, is_told=False)
    took_s = round(time.monotonic() - began)
    became, unnoticed = results()
    known, survivors = judged(), []
    for mutant in unnoticed:
        change = change_of(mutant, mutmut("show", mutant))
        survivors.append({
            "where": change.where, "was": change.was, "became": change.became, "status": became[mutant],
            "because": known.get(change, "not judged"),
        })  # fmt: skip
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "tool": f"mutmut {version('mutmut')}",
        "seconds": took_s,
        "only_survivors_again": is_again,
        "modules": by_module(became),
        "survivors": survivors,
    }


def complaints(told: Mapping[str, Any]) -> list[str]:
    """What is not as promised."""
    return [
        f"{name}: the tests notice {one['score']:.1%} of {one['mutants']} mutants; at least {FLOOR:.0%} were promised"
        for name, one in told["modules"].items()
        if one["score"] < FLOOR
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("--children", type=int, default=available_cores(), help="mutants that are tried at a time")
    parser.add_argument(
        "--again", action="store_true", help="try only those that were not noticed last time, after a test has come"
    )
    parser.add_argument("--output", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    try:
        told = measure(options.children, options.again)
    except (HooperError, OSError) as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2
    if options.output is not None:
        options.output.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for one in told["survivors"]:
        print(f"{one['where']}: {one['status']}\n  - {one['was']}\n  + {one['became']}\n  {one['because']}")
    print(table(told["modules"]), end="")
    found = complaints(told)
    for complaint in found:
        print(f"mutation: {complaint}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
