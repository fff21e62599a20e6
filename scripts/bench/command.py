"""`hooper bench`: load on a service, compared with what its engine and the machine could do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_type_hints

from app.core.command_line import annotated_option, offline_errors, program, spread
from app.core.errors import SetupError
from app.core.exit_codes import EXIT_FAILED
from app.core.manifest import MANIFEST, read_manifest
from app.runtime.providers import available_cores
from app.tasks.registry import environment_tasks
from scripts.bench.engine import can_read_graphs, matrix_gflop_per_s, measure_engine, provider_for
from scripts.bench.load import PATH, LoadResult, measure_closed_loop, model_state, open_loop, percentile_ms, text_requests
from scripts.bench.report import OPTIONS, describe_machine, draw_bars, markdown_table, report_head, write_json
from scripts.bench.service import Address, start_service
from scripts.bench.streams import StreamResult, measure_streams
from scripts.bench.texts import PROFILES, Profile, profile_texts
from scripts.bench.tune import as_env_file, choices, compare_services, tune

EXAMPLES = """\
  hooper bench                                       start the service, all profiles, one and 32 texts a request
  hooper bench --profile short --items 1 --seconds 30
  hooper bench --rate 100                            an open loop: 100 requests a second, whatever is answered
  hooper bench --url http://127.0.0.1:8000           a service that runs already (without the engine's figures)
  hooper bench --model en-de --profile short         a model that writes: tokens a second, and how long callers wait for them
  hooper bench --tune --output .                     the best settings for this machine, in tuned.env (minutes)
  hooper bench --output results                      keep results/bench.json, bench.md and a picture (needs the extra train)
"""


@dataclass(frozen=True)
class LoadLine:
    """One load on one service; `share_of_engine` is texts a second over those of the engine alone, in the same run."""

    profile: str
    load: str
    items: int
    texts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    share_of_engine: float | None = None

    @classmethod
    def of(cls, profile: str, load: str, items: int, result: LoadResult, engine: float | None) -> LoadLine:
        texts = result.requests_per_s * items
        p50, p95, p99 = (round(result.percentile_ms(share), 2) for share in (0.5, 0.95, 0.99))
        share = None if engine is None else round(texts / engine, 3)
        return cls(profile, load, items, round(texts, 1), p50, p95, p99, result.num_failed, share)


@dataclass(frozen=True)
class WrittenLine:
    """One load on a model that writes; times are those of the callers, who read each text as it is written."""

    profile: str
    load: str
    tokens_per_s: float
    texts_per_s: float
    first_p50_ms: float
    first_p99_ms: float
    between_p50_ms: float
    between_p99_ms: float
    whole_p50_ms: float
    whole_p99_ms: float
    failed: int

    @classmethod
    def of(cls, profile: str, load: str, result: StreamResult) -> WrittenLine:
        good = result.good
        first = [sample.pieces_s[0] for sample in good if sample.pieces_s]
        between = [seconds for sample in good for seconds in sample.between_s]
        first_p50, first_p99, between_p50, between_p99, whole_p50, whole_p99 = (
            round(percentile_ms(of_all, share), 2)
            for of_all in (first, between, [sample.latency_s for sample in good])
            for share in (0.5, 0.99)
        )
        return cls(
            profile, load, round(result.tokens_per_s, 1), round(len(good) / result.seconds, 2),
            first_p50, first_p99, between_p50, between_p99, whole_p50, whole_p99, result.num_failed,
        )  # fmt: skip


@dataclass
class BenchReport:
    """A whole run."""

    model: dict[str, Any]
    machine: dict[str, Any]
    taken: str
    ceilings: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """The engine alone, by profile."""
    matrix_gflop_per_s: float | None = None
    lines: list[LoadLine] = field(default_factory=list)
    written: list[WrittenLine] = field(default_factory=list)
    """Of a model that writes, in place of `lines`."""

    @property
    def num_failed(self) -> int:
        return sum(line.failed for line in self.lines) + sum(line.failed for line in self.written)

    def to_markdown(self) -> str:
        """Ratios travel, absolute figures do not: both are shown, with the machine above them."""
        model, matrix = self.model, self.matrix_gflop_per_s
        facts = [
            f"- engine alone, {profile}: {rate['texts_per_s']:.0f} texts/s, {rate['tokens_per_s']:.0f} tokens/s"
            + (f", {rate['gflop_per_s'] / matrix:.2f} of the matrix peak" if matrix and rate["gflop_per_s"] else "")
            for profile, rate in self.ceilings.items()
        ]
        if matrix:
            facts.append(f"- matrix products alone (the peak): {matrix:.0f} GFLOP/s")
        elif self.ceilings:
            facts.append("- matrix products alone: not measured, `onnx` is not installed (extra train)")
        head = ("texts", "load", "texts a request", "texts/s", "% of engine", "p50 ms", "p95 ms", "p99 ms", "failed")
        rows = [
            [line.profile, line.load, line.items, line.texts_per_s,
             "" if line.share_of_engine is None else f"{100 * line.share_of_engine:.0f}",
             line.p50_ms, line.p95_ms, line.p99_ms, line.failed]
            for line in self.lines
        ]  # fmt: skip
        return "\n".join([
            f"# {model['name']}/{model['version']} on {self.machine['processor']}, {self.machine['cores']} cores", "",
            f"{model['provider']} in {model['precision']}, layout {model['layout']}; {self.taken}; client on the same cores.",
            "",
            *facts, "", *(self._written_table() if self.written else markdown_table(head, rows)), "",
        ])  # fmt: skip

    def _written_table(self) -> list[str]:
        times = [f"{what} {share} ms" for what in ("first token", "between tokens", "whole text") for share in ("p50", "p99")]
        head = ("texts", "load", "tokens/s", "texts/s", *times, "failed")
        return markdown_table(head, [list(asdict(line).values()) for line in self.written])


@dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how."""

    url: str = ""
    models: Path = field(default_factory=lambda: Path(os.environ.get("HOOPER_MODELS") or "models"))
    model: str = "sentiment"
    device: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = "auto"
    threads: int = 0
    precision: Literal["auto", "fp32"] = "auto"
    peer: list[str] = field(default_factory=list)
    tune: bool = False
    turns: int = 3
    profile: list[Profile] = field(default_factory=lambda: list(PROFILES))
    items: list[int] = field(default_factory=lambda: [1, 32])
    connections: list[int] = field(default_factory=lambda: [1, 32])
    rate: list[float] = field(default_factory=list)
    seconds: float = 10.0
    new_tokens: int = 64
    output: Path | None = None
    json: bool = False


HELP = {
    "url": "a running service; default: one is started for the benchmark",
    **{name: str(OPTIONS[name]["help"]) for name in ("models", "model", "device", "threads")},
    "precision": "as HOOPER_PRECISION (auto)",
    "peer": "deprecated: python -m scripts.peers.compare, in a checkout",
    "tune": "find the best settings for this machine and model instead",
    "turns": "with --tune: times that each service is asked (3)",
    "profile": "short sentences, 1 in 10 a review, or reviews",
    "items": "texts in a request (1 32)",
    "connections": "callers of the closed loops (1 32)",
    "rate": "open loops: requests a second (none)",
    "seconds": "seconds per load (10)",
    "new_tokens": "of a model that writes: tokens of each text, at most (64)",
    "output": "also write bench.json, bench.md and bench.svg into this folder",
    "json": "print JSON instead of a table",
}
_KINDS = get_type_hints(BenchOptions)


@program("hooper bench", EXAMPLES, offline_errors("hooper bench"))
@spread(
    "options",
    {name: annotated_option(name, _KINDS[name], text) for name, text in HELP.items()},
    lambda values: BenchOptions(**values),
)
def main(options: BenchOptions) -> int:
    """Put load on a service and say how fast it answers, compared with its engine and the machine."""
    if options.peer:
        return _compare_with_peers(options)
    if options.tune:
        return _tune(options)
    report = run(options)
    print(json.dumps(asdict(report), indent=2) if options.json else report.to_markdown())
    if options.output:
        _keep(report, options.output)
    return EXIT_FAILED if report.num_failed else 0


def run(options: BenchOptions) -> BenchReport:
    """Every profile and request size in turn; the engine alone first, then the service."""
    load = os.getloadavg()
    with ExitStack() as stack:
        if options.url:
            address = Address.of(options.url)
        else:
            address = stack.enter_context(start_service(service_settings(options))).address
        path = writing_path(address, options.model)
        state = model_state(address, options.model) if path is None else address.get(f"/v1/models/{options.model}")
        model = {key: state[key] for key in ("name", "version", "precision", "layout")}
        report = BenchReport(model | {"provider": state["execution_providers"][0]}, **report_head(load))
        if path is not None:
            report.written = [line for profile in options.profile for line in _written(options, address, path, profile)]
            return report
        measure = None if options.url else _engine(options, state, report)
        for profile in options.profile:
            engine = None if measure is None else measure(profile)
            for items in options.items:
                report.lines += _lines(options, address, profile, items, engine)
    return report


def writing_path(address: Address, name: str) -> str | None:
    """Where the texts of a model that writes are asked for; None of one that reads.

    Raises:
        SetupError: the service has no such model, or one whose task this code does not know.
    """
    try:
        state = address.get(f"/v1/models/{name.partition('/')[0]}")
    except OSError as error:
        raise SetupError(f"{address.url} does not tell of a model {name}: {error}") from error
    if state.get("decoder") is None:
        return None
    return f"/{environment_tasks().find(state['task']).routes[0].route.path}"


def _written(options: BenchOptions, address: Address, path: str, profile: Any) -> list[WrittenLine]:
    """Texts of at most so many tokens, greedily, since of beams nothing is told before their end.

    Raises:
        SetupError: an open loop is wished for.
    """
    if options.rate:
        raise SetupError(f"{options.model} writes, which is measured by callers who wait: leave out --rate")
    requests = text_requests(
        path, profile_texts(profile),
        model=options.model, stream=True, num_beams=1, temperature=0, max_new_tokens=options.new_tokens,
    )  # fmt: skip
    return [
        WrittenLine.of(profile, f"{callers} callers", measure_streams(address, requests, callers, options.seconds))
        for callers in options.connections
    ]


def service_settings(options: BenchOptions) -> dict[str, str]:
    """Environment variables of the service that is measured."""
    names = {"MODELS": options.models, "DEVICE": options.device, "SERVE": options.model, "PRECISION": options.precision}
    return {f"HOOPER_{name}": str(value) for name, value in names.items()}


def _engine(options: BenchOptions, state: Mapping[str, Any], report: BenchReport) -> Callable[[Any], float]:
    """Measures the machine's matrix products now, and later, for a profile, the texts a second of the engine alone."""
    folder, limits = options.models / state["name"] / str(state["version"]), state["limits"]
    provider = provider_for(read_manifest(folder), options.device, options.precision)
    if can_read_graphs():
        report.matrix_gflop_per_s = round(matrix_gflop_per_s(options.threads, options.seconds / 4, provider), 1)

    def measure(profile: Any) -> float:
        rate = measure_engine(
            folder, profile_texts(profile), provider, options.threads,
            limits["max_batch_tokens"], limits["max_batch_rows"], options.seconds / 2,
        )  # fmt: skip
        report.ceilings[profile] = asdict(rate)
        return rate.texts_per_s

    return measure


def _lines(options: BenchOptions, address: Address, profile: Any, items: int, engine: float | None) -> list[LoadLine]:
    requests = text_requests(PATH, profile_texts(profile), items, model=options.model)
    loads = {
        f"{connections} connections": measure_closed_loop(address, requests, connections, options.seconds)
        for connections in options.connections
    }
    for rate in options.rate:
        loads[f"{rate:g} requests/s"] = asyncio.run(open_loop(address, requests, rate, options.seconds))
    return [LoadLine.of(profile, load, items, result, engine) for load, result in loads.items()]


def _keep(report: BenchReport, folder: Path) -> None:
    write_json(folder / "bench.json", asdict(report))
    page = report.to_markdown()
    if find_spec("matplotlib"):  # the extra `train`
        bars = [(f"{line.profile}, {line.load},\n{line.items} a request", "Hooper", line.texts_per_s) for line in report.lines]
        bars += [(f"{line.profile}, {line.load}", "Hooper", line.tokens_per_s) for line in report.written]
        unit = "tokens" if report.written else "texts"
        draw_bars(folder / "bench.svg", bars, f"{unit}/s")
        page += f"\n![{unit.capitalize()} a second under each load](bench.svg)\n"
    (folder / "bench.md").write_text(page, encoding="utf-8")


def _tune(options: BenchOptions) -> int:
    """Print each trial and then the settings, which also go into tuned.env where there is a folder for output."""
    if options.url:
        raise SetupError("--tune starts services of its own with different settings; leave out --url")
    manifests = (options.models / options.model.partition("/")[0]).glob(f"*/{MANIFEST}")
    if any(read_manifest(file.parent).decoder is not None for file in manifests):
        raise SetupError(f"--tune is for models that read, and {options.model} writes")
    texts = profile_texts(options.profile[0] if len(options.profile) == 1 else "mixed")
    requests = text_requests(PATH, texts, options.items[0], model=options.model)
    best: Mapping[str, str] = {}
    compare = compare_services(service_settings(options), requests, options.seconds / 2, options.turns)
    for trial, so_far in tune(choices(available_cores()), compare):
        print(trial, file=sys.stderr, flush=True)
        best = so_far
    env_file = as_env_file(best, describe_machine()["processor"])
    print(env_file, end="")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "tuned.env").write_text(env_file, encoding="utf-8")
    return 0


def _compare_with_peers(options: BenchOptions) -> int:
    """The option's name of release 0.1, for a release more: the comparison is a developer's tool now."""
    if find_spec("scripts.peers") is None:
        raise SetupError("--peer needs a checkout of Hooper, where it is `python -m scripts.peers.compare`")
    names = ("models", "model", "device", "peer", "profile", "connections", "seconds", "turns", "output")
    words: list[str] = []
    for name in names:
        value = getattr(options, name)
        values = value if isinstance(value, list) else [value]
        words += [] if value is None else [f"--{name}", *map(str, values)]
    code: int = import_module("scripts.peers.compare").main(words)
    return code


if __name__ == "__main__":
    sys.exit(main())
