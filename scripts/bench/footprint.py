"""What the service needs of a machine: seconds to start, memory, cores and temporary files. Kubernetes' requests come from it.

    python -m scripts.bench.footprint --device auto cpu --output docs/measurements/footprint.json

Memory is what /proc says of the process (Linux only): shared libraries are counted in full, so that a container needs no more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.connection import prepared
from scripts.bench.load import Measured, closed_loop
from scripts.bench.service import Address, started_process
from scripts.bench.texts import profile_texts

CONNECTIONS, ITEMS = 8, 8
POLL_S = 0.02
MIB = 2**20
QUESTION = "What did the writer think of it?"


@dataclass(frozen=True, slots=True)
class Footprint:
    """One service from its start through a load. Memory and files in MiB."""

    device: str
    models: Sequence[str]
    execution_provider: str
    start_s: float
    loading_peak_mib: int
    loaded_mib: int
    load_peak_mib: int
    cores_under_load: float
    temporary_mib: int
    """The most that its temporary folder held: weights are unpacked through it."""
    statuses: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, as /proc tells of it."""

    pid: int

    def memory_mib(self, field: str = "VmRSS") -> int:
        """`VmRSS`: what is resident now; `VmHWM`: the most since it started, or since `forget_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) // 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def cpu_s(self) -> float:
        """Seconds of all its threads on a core so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watched:
    """The most bytes that a folder held while this was watching it. Invariant: its thread ends with the block."""

    def __init__(self, folder: Path) -> None:
        self.peak_bytes = 0
        self._folder, self._stop = folder, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch-folder")

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self.peak_bytes = max(self.peak_bytes, _held(self._folder))


def measure(models: Path, names: str, device: str, seconds: float) -> Footprint:
    """Start a service, load its models, put load on it and look at it all the while.

    Raises:
        SetupError: it does not get ready.
    """
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder, Watched(Path(folder)) as files:
        settings = {"HOOPER_MODELS": str(models), "HOOPER_SERVE": names, "HOOPER_DEVICE": device, "TMPDIR": folder}
        began = time.monotonic()
        with started_process(settings) as (address, pid):
            start_s = time.monotonic() - began
            process = Process(pid)
            loaded, loading_peak = process.memory_mib(), process.memory_mib("VmHWM")
            process.forget_peak()
            live = address.get("/v1/models")["models"]
            cpu_before, before = process.cpu_s(), time.monotonic()
            measured = _load(address, live, seconds)
            cores = (process.cpu_s() - cpu_before) / (time.monotonic() - before)
            load_peak = process.memory_mib("VmHWM")
    return Footprint(
        device, [f"{one['name']}/{one['version']}" for one in live], live[0]["execution_providers"][0], round(start_s, 1),
        loading_peak, loaded, load_peak, round(cores, 1), -(-files.peak_bytes // MIB), measured.statuses,
    )  # fmt: skip


def _load(address: Address, models: Sequence[Mapping[str, Any]], seconds: float) -> Measured:
    """Several callers with several long texts each, to every model in turn: the queue is never empty, every batch is full."""
    requests = [
        prepared(address.host, route, {"model": one["name"], "inputs": inputs})
        for one in models
        for route, inputs in _requests(one["task"])
    ]
    return asyncio.run(closed_loop(address.host, address.port, requests, CONNECTIONS, seconds, 0.0))


def _requests(task: str) -> Iterator[tuple[str, list[Any]]]:
    texts = profile_texts("mixed")[: 4 * ITEMS] + profile_texts("long")[: 4 * ITEMS]
    for start in range(0, len(texts), ITEMS):
        group = texts[start : start + ITEMS]
        if task == "question-answering":
            yield "/v1/answer", [{"question": QUESTION, "context": text} for text in group]
        elif task == "summarization":
            yield "/v1/summarize", list(group)
        else:
            yield "/v1/classify", list(group)


def _held(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # removed between listing and looking
            continue
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write.

    Returns:
        0; 1 if a request failed; 2 if a service could not start.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.footprint", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="model repository (models)")
    parser.add_argument("--serve", default="", metavar="NAMES", help="as HOOPER_SERVE (all)")
    parser.add_argument("--device", nargs="+", default=["auto"], metavar="DEVICE", help="as HOOPER_DEVICE, one run each (auto)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="seconds of load (20)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        found = [measure(options.models, options.serve, device, options.seconds) for device in options.device]
    except HooperError as error:
        print(f"footprint: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    text = json.dumps([asdict(one) for one in found], indent=2) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return int(any(set(one.statuses) - {200} for one in found))


if __name__ == "__main__":
    sys.exit(main())
