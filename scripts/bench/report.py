"""What a benchmark found, as JSON and as a short markdown page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.runtime.providers import available_cores
from scripts.bench.load import Measured
from scripts.bench.versus import Standing


@dataclass(frozen=True)
class Line:
    """One load on one service."""

    profile: str
    load: str
    items: int
    texts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    share_of_engine: float | None = None
    """Texts a second over those of the engine alone, in the same run."""

    @classmethod
    def of(cls, profile: str, load: str, items: int, measured: Measured, engine: float | None) -> Line:
        texts = measured.throughput * items
        p50, p95, p99 = (round(measured.percentile_ms(share), 2) for share in (0.5, 0.95, 0.99))
        failed = sum(count for status, count in measured.statuses.items() if status != 200)
        share = None if engine is None else round(texts / engine, 3)
        return cls(profile, load, items, round(texts, 1), p50, p95, p99, failed, share)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, system and Python."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def machine_before(load: Sequence[float]) -> dict[str, Any]:
    """The machine and its load averages before a run (`os.getloadavg`): what else it had to do then."""
    return describe_machine() | {"load_before": [round(one, 1) for one in load]}


def write_json(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write it where a file was asked for, in a folder that need not exist yet."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@dataclass
class Report:
    """A whole run."""

    model: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=describe_machine)
    taken: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    matrix_gflop_per_s: float | None = None
    lines: list[Line] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    """Ours first, then the others, under one load after the other; empty where nobody else was asked."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self) -> str:
        """Ratios travel, absolute figures do not: both are shown, with the machine above them."""
        model = self.model
        rows = [_row(one) for one in self.lines]
        engine = [
            f"- engine alone, {profile}: {one['texts_per_s']:.0f} texts/s, {one['tokens_per_s']:.0f} tokens/s"
            f"{self._of_matrix(one)}"
            for profile, one in self.ceilings.items()
        ]
        return "\n".join([
            f"# {model['name']}/{model['version']} on {self.machine['processor']}, {self.machine['cores']} cores",
            "",
            f"{model['provider']} in {model['precision']}, layout {model['layout']}; {self.taken}; client on the same cores.",
            "",
            *engine,
            *([f"- matrix products alone, fp32: {self.matrix_gflop_per_s:.0f} GFLOP/s"] if self.matrix_gflop_per_s else []),
            "",
            "| texts | load | texts a request | texts/s | of the engine | p50 ms | p95 ms | p99 ms | failed |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            *self._beside_others(),
        ])  # fmt: skip

    def _beside_others(self) -> list[str]:
        """Each standing as a ratio of ours: what holds on other machines too, more or less."""
        if not self.standings:
            return []
        ours = {(one.profile, one.connections): one for one in reversed(self.standings) if one.title == self.standings[0].title}
        rows = [_standing_row(one, ours[one.profile, one.connections]) for one in self.standings]
        return [
            "## Beside others, on the same weights",
            "",
            "Asked in turns, one text a request, while the others stood still; ratios are those of the first line to each.",
            "",
            "| texts | connections | server | requests/s | ours to it | p50 ms | ours to it | p99 ms | failed |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]

    def _of_matrix(self, ceiling: dict[str, float]) -> str:
        if not self.matrix_gflop_per_s:
            return ""
        return f", {ceiling['gflop_per_s'] / self.matrix_gflop_per_s:.2f} of the machine's fp32 matrix products"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _standing_row(one: Standing, ours: Standing) -> str:
    faster = f"{ours.requests_per_s / one.requests_per_s:.2f}" if one.requests_per_s else "no answer"
    cells: Sequence[object] = (
        one.profile, one.connections, one.title, one.requests_per_s, faster, one.p50_ms, f"{ours.p50_ms / one.p50_ms:.2f}",
        one.p99_ms, one.failed,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _row(one: Line) -> str:
    share = "" if one.share_of_engine is None else f"{one.share_of_engine:.2f}"
    cells: Sequence[object] = (
        one.profile, one.load, one.items, one.texts_per_s, share, one.p50_ms, one.p95_ms, one.p99_ms, one.failed
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"
