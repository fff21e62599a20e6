"""How many corrections a second are on the disk: `python -m scripts.bench.feedback_rate FOLDER`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from app.core.correction import Correction
from app.core.feedback import FeedbackFile

CORRECTION = Correction(
    model="topics",
    version=1,
    task="text-classification",
    item={"text": "a text of some length " * 20},
    predicted={"labels": [{"label": f"label {number}", "score": 0.05} for number in range(20)]},
    right={"label": "label 1"},
    agrees=False,
    request_id="0123456789abcdef",
    at="2026-01-01T00:00:00.000+00:00",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="on the disk to measure (default: here)")
    parser.add_argument("--count", type=int, default=1000, help="corrections to write (default: 1000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, FeedbackFile(Path(folder) / "feedback.db", 1 << 30) as file:
        began = time.perf_counter()
        for _ in range(options.count):
            file.add([CORRECTION])
        print(f"{options.count / (time.perf_counter() - began):,.0f} corrections a second, each in a request of its own")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
