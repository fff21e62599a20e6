"""How long "why?" takes: `POST /v1/explain` for reviews of about 200 words, one caller, over HTTP.

python -m scripts.bench.explain_latency --output scripts/bench/results/explain_latency.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.report import machine_before
from scripts.bench.service import Address, started
from scripts.bench.texts import profile_texts

WORDS = range(180, 241)
"""Words of the reviews that are taken."""
WARM_UP = 2


def reviews(count: int) -> list[str]:
    """Different reviews of about 200 words, held out from training."""
    fitting = [text for text in profile_texts("long") if len(text.split()) in WORDS]
    return list(dict.fromkeys(fitting))[:count]


def measure(address: Address, model: str, texts: Sequence[str], method: str) -> dict[str, Any]:
    """Seconds from the request to its answer, one after the other; the first `WARM_UP` texts are sent once before."""
    seconds, tokens = [], []
    for text in [*texts[:WARM_UP], *texts]:
        began = time.perf_counter()
        answer = address.post("/v1/explain", {"model": model, "inputs": text, "method": method})
        seconds.append(time.perf_counter() - began)
        tokens.append(answer["usage"]["num_tokens"])
    kept = np.array(seconds[WARM_UP:])
    return {
        "p50_s": round(float(np.median(kept)), 3),
        "max_s": round(float(kept.max()), 3),
        "tokens_read": round(float(np.mean(tokens[WARM_UP:]))),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="explain_latency", description="How long an explanation of a review takes.")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository")
    parser.add_argument("--model", default="sentiment", help="a model that classifies texts")
    parser.add_argument("--device", default="auto", help="as HOOPER_DEVICE")
    parser.add_argument("--reviews", type=int, default=15, help="how many, of 15")
    parser.add_argument("--output", type=Path, help="file for the report")
    options = parser.parse_args(arguments)
    texts, load = reviews(options.reviews), os.getloadavg()
    settings = {"HOOPER_MODELS": str(options.models), "HOOPER_SERVE": options.model, "HOOPER_DEVICE": options.device}
    try:
        with started(settings) as address:
            methods = {method: measure(address, options.model, texts, method) for method in ("shapley", "occlusion")}
    except HooperError as error:
        print(f"explain_latency: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    report = {
        "command": "python -m scripts.bench.explain_latency " + " ".join(sys.argv[1:] if arguments is None else arguments),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_before(load),
        "model": options.model, "device": options.device,
        "reviews": len(texts), "words": round(float(np.mean([len(text.split()) for text in texts]))),
        "methods": methods,
    }  # fmt: skip
    text = json.dumps(report, indent=2) + "\n"
    print(text, end="")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
