"""What the service needs of a machine: seconds to start, memory, cores and temporary files. Kubernetes' requests come from it.

    python -m scripts.bench.footprint --device auto cpu --output docs/measurements/footprint.json

Memory is what /proc says of the process (Linux only): shared libraries are counted in full, so that a container needs no more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.core.manifest import read_manifest
from scripts.bench.load import measure_closed_loop, prepared_request
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import OK, start_service
from scripts.bench.texts import profile_texts

CONNECTIONS = 64
NUM_TEXTS = 32
"""Of each kind, for each model."""
POLL_S = 0.02
MIB = 2**20


def measure_footprint(models: Path, names: str, device: str, seconds: float) -> dict[str, Any]:
    """Start a service, load its models, put load on it and look at it all the while. Memory and files in MiB.

    Raises:
        SetupError: it does not get ready.
    """
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder, peak_bytes_of(Path(folder)) as peak:
        settings = {"HOOPER_MODELS": str(models), "HOOPER_SERVE": names, "HOOPER_DEVICE": device, "TMPDIR": folder}
        began = time.monotonic()
        with start_service(settings) as service:
            start_s, stats = time.monotonic() - began, service.stats
            loaded, loading_peak = stats.memory_mib(), stats.memory_mib("VmHWM")
            stats.forget_peak()
            states = service.address.get("/v1/models")["models"]
            ids = [f"{state['name']}/{state['version']}" for state in states]
            requests = [request for id in ids for request in long_requests(models / id)]
            cpu_before, before = stats.cpu_s(), time.monotonic()
            result = measure_closed_loop(service.address, requests, CONNECTIONS, seconds)
            cores, load_peak = (stats.cpu_s() - cpu_before) / (time.monotonic() - before), stats.memory_mib("VmHWM")
    return {
        "device": device,
        "models": ids,
        "execution_provider": states[0]["execution_providers"][0],
        "start_s": round(start_s, 1),
        "loading_peak_mib": loading_peak,
        "loaded_mib": loaded,
        "load_peak_mib": load_peak,
        "cores_under_load": round(cores, 1),
        "temporary_mib": -(-peak[0] // MIB),
        "statuses": {str(status): count for status, count in result.statuses.items()},
    }


def long_requests(folder: Path) -> Iterator[bytes]:
    """Requests for a model, longer than it reads in part: its golden item with real texts in its longest field. They come from
    so many callers that the queue is never empty and every batch is full."""
    golden = json.loads((folder / read_manifest(folder).golden).read_text(encoding="utf-8"))
    item: dict[str, Any] = golden[0]["item"]
    longest = max(item, key=lambda name: len(str(item[name])))
    for text in profile_texts("mixed")[:NUM_TEXTS] + profile_texts("long")[:NUM_TEXTS]:
        inputs = text if len(item) == 1 else item | {longest: text}
        yield prepared_request("localhost", f"/models/{folder.parent.name}", {"inputs": inputs})


@contextmanager
def peak_bytes_of(folder: Path) -> Iterator[list[int]]:
    """The most bytes that a folder holds until the block ends, as the one element of a list. The thread ends with the block."""
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(POLL_S):
            total = 0
            for path in folder.rglob("*"):
                with suppress(FileNotFoundError):  # removed between listing and looking
                    total += path.stat().st_size if path.is_file() else 0
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, name="watch-folder")
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    runs = [measure_footprint(options.models, options.serve, device, options.seconds) for device in options.device]
    is_bad = any(set(run["statuses"]) - {str(OK)} for run in runs)
    return {"runs": runs, "complaints": ["a request failed"] if is_bad else []}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.footprint", __doc__, "models")
    parser.add_argument("--serve", default="", metavar="NAMES", help="as HOOPER_SERVE (all)")
    parser.add_argument("--device", nargs="+", default=["auto"], metavar="DEVICE", help="as HOOPER_DEVICE, one run each (auto)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="seconds of load (20)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
