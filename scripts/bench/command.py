"""`hooper bench`: load on a service, beside what its engine and the machine could do."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.core.errors import HooperError, SetupError
from app.core.exit_codes import EXIT_INTERRUPTED, EXIT_SETUP
from app.runtime.providers import available_cores
from scripts.bench.beside import beside_others, service_settings
from scripts.bench.ceiling import engine_ceiling, matrix_ceiling
from scripts.bench.connection import prepared
from scripts.bench.load import Measured, closed_loop
from scripts.bench.open_loop import open_loop
from scripts.bench.peers import PEERS
from scripts.bench.picture import draw_bench
from scripts.bench.report import Line, Report, describe_machine
from scripts.bench.service import Address, started_process
from scripts.bench.texts import PROFILES, Profile, profile_texts
from scripts.bench.tune import as_env_file, choices, measure_services, tune

EXAMPLES = """examples:
  hooper bench                                       start the service, all profiles, one and 32 texts a request
  hooper bench --profile short --items 1 --seconds 30
  hooper bench --rate 100                            an open loop: 100 requests a second, whatever is answered
  hooper bench --url http://127.0.0.1:8000           a service that runs already (no engine beside it)
  hooper bench --peer infinity litserve              others beside it, on the same weights (needs the extra train)
  hooper bench --tune --output .                     the best settings for this machine, in tuned.env (minutes)
  hooper bench --output results                      keep results/bench.json, bench.md and a picture (needs the extra train)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0; 1 if a request failed; 2 if it could not start; 130 if it was interrupted.
    """
    options = parser().parse_args(arguments)
    try:
        if options.tune:
            return _tune(options)
        report = run(options)
    except HooperError as error:
        print(f"hooper bench: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print(json.dumps(report.to_json(), indent=2) if options.json else report.to_markdown())
    if options.output:
        _keep(report, options.output)
    return int(any(one.failed for one in report.lines))


def _keep(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    page = report.to_markdown()
    if find_spec("matplotlib"):  # the extra `train`
        draw_bench(report, folder / "bench.svg")
        page += "\n![What was reached](bench.svg)\n"
    (folder / "bench.md").write_text(page, encoding="utf-8")


def _tune(options: argparse.Namespace) -> int:
    """Print each trial and then the settings, which also go into tuned.env where there is a folder for output."""
    if options.url:
        raise SetupError("--tune starts services of its own with different settings; leave out --url")
    texts = profile_texts(options.profile[0] if len(options.profile) == 1 else "mixed")

    def requests(address: Address) -> list[bytes]:
        return _requests(options.model, texts, options.items[0], address.host)

    base = service_settings(options, options.precision)
    best: Mapping[str, str] = {}
    measure = measure_services(base, requests, options.seconds / 2, options.turns)
    for trial, so_far in tune(choices(available_cores()), measure):
        print(trial, file=sys.stderr, flush=True)
        best = so_far
    found = as_env_file(best, describe_machine()["processor"])
    print(found, end="")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "tuned.env").write_text(found, encoding="utf-8")
    return 0


def run(options: argparse.Namespace) -> Report:
    """Every profile and request size in turn; the engine alone first, then the service."""
    if options.url and options.peer:
        raise SetupError("--peer starts the service itself, to stop it while others are asked; leave out --url")
    with ExitStack() as stack:
        if options.url:
            address, process = Address.of(options.url), 0
        else:
            address, process = stack.enter_context(started_process(service_settings(options, options.precision)))
        state = _model(address, options.model)
        report = Report({key: state[key] for key in ("name", "version", "precision", "layout")} | {
            "provider": state["execution_providers"][0]
        })  # fmt: skip
        if not options.url:
            report.matrix_gflop_per_s = round(matrix_ceiling(options.threads, options.seconds / 4), 1)
        for profile in options.profile:
            engine = None if options.url else _engine(options, state, profile, report)
            for items in options.items:
                report.lines += _loads(options, address, profile, items, engine)
        if options.peer:
            report.standings += beside_others(options, stack, state, address, process)
    return report


def _engine(options: argparse.Namespace, state: dict[str, Any], profile: Profile, report: Report) -> float:
    limits, folder = state["limits"], options.models / state["name"] / str(state["version"])
    ceiling = engine_ceiling(
        folder, profile_texts(profile), options.device, options.threads,
        limits["max_batch_tokens"], limits["max_batch_rows"], options.seconds / 2, options.precision,
    )  # fmt: skip
    report.ceilings[profile] = asdict(ceiling)
    return ceiling.texts_per_s


def _loads(options: argparse.Namespace, address: Address, profile: Profile, items: int, engine: float | None) -> list[Line]:
    requests = _requests(options.model, profile_texts(profile), items, address.host)

    def closed(connections: int) -> Measured:
        return asyncio.run(closed_loop(address.host, address.port, requests, connections, options.seconds, options.seconds / 5))

    lines = [
        Line.of(profile, f"{connections} connections", items, closed(connections), engine)
        for connections in options.connections
    ]
    for rate in options.rate:
        measured = asyncio.run(open_loop(address.host, address.port, requests, rate, options.seconds))
        lines.append(Line.of(profile, f"{rate:g} requests/s", items, measured, engine))
    return lines


def _requests(model: str, texts: Sequence[str], items: int, host: str) -> list[bytes]:
    groups = [texts[start : start + items] for start in range(0, len(texts) - items + 1, items)]
    bodies = [{"model": model, "inputs": group if items > 1 else group[0]} for group in groups]
    return [prepared(host, "/v1/classify", body) for body in bodies]


def _model(address: Address, name: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = address.get(f"/v1/models/{name.partition('/')[0]}")
    except OSError as error:
        raise SetupError(f"http://{address.host}:{address.port} does not tell of a model {name}: {error}") from error
    if state["task"] != "text-classification":
        raise SetupError(f"{name} is for {state['task']}; the benchmark sends texts to classify")
    return state


def parser() -> argparse.ArgumentParser:
    """The options, for completion too."""
    made = argparse.ArgumentParser(
        prog="hooper bench",
        description="Put load on a service and say how fast it answers, beside what its engine and the machine could do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--url", help="a running service; default: one is started for the benchmark")
    made.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    made.add_argument("--model", default="sentiment", metavar="NAME", help="a model that classifies texts (sentiment)")
    made.add_argument("--device", default="auto", metavar="DEVICE", help="as HOOPER_DEVICE (auto)")
    made.add_argument("--precision", choices=("auto", "fp32"), default="auto", help="as HOOPER_PRECISION (auto)")
    made.add_argument(
        "--peer",
        nargs="+",
        choices=tuple(PEERS),
        default=[],
        help="others to measure beside it",
    )
    made.add_argument("--tune", action="store_true", help="find the best settings for this machine and model instead")
    made.add_argument("--turns", type=int, default=3, metavar="N", help="times that each is asked beside the others (3)")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine alone; 0: all cores (0)")
    made.add_argument(
        "--profile", nargs="+", choices=PROFILES, default=list(PROFILES), help="short sentences, 1 in 10 a review, or reviews"
    )
    made.add_argument("--items", nargs="+", type=int, default=[1, 32], metavar="N", help="texts in a request (1 32)")
    made.add_argument(
        "--connections", nargs="+", type=int, default=[1, 32], metavar="N", help="callers of the closed loops (1 32)"
    )
    made.add_argument("--rate", nargs="+", type=float, default=[], metavar="R", help="open loops: requests a second (none)")
    made.add_argument("--seconds", type=float, default=10.0, metavar="S", help="seconds per load (10)")
    made.add_argument(
        "--output", type=Path, metavar="FOLDER", help="also write bench.json, bench.md and bench.svg into this folder"
    )
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return made


if __name__ == "__main__":
    sys.exit(main())
