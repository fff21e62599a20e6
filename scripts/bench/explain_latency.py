"""How long "why?" takes: `POST /v1/explain` for reviews of about 200 words, one caller, over HTTP.

python -m scripts.bench.explain_latency --output scripts/bench/results/explain_latency.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import Address, start_service
from scripts.bench.texts import profile_texts

WORDS = range(180, 241)
"""Words of the reviews that are taken."""
NUM_WARM_UP = 2


def reviews(count: int) -> list[str]:
    """Different reviews of about 200 words, held out from training."""
    return list(dict.fromkeys(text for text in profile_texts("long") if len(text.split()) in WORDS))[:count]


def measure_method(address: Address, model: str, texts: Sequence[str], method: str) -> dict[str, Any]:
    """Seconds from the request to its answer, one after the other; the first texts are sent once before, to warm up."""
    seconds, tokens = [], []
    for text in [*texts[:NUM_WARM_UP], *texts]:
        began = time.perf_counter()
        answer = address.post("/v1/explain", {"model": model, "inputs": text, "method": method})
        seconds.append(time.perf_counter() - began)
        tokens.append(answer["usage"]["num_tokens"])
    counted = seconds[NUM_WARM_UP:]
    return {
        "p50_s": round(median(counted), 3), "max_s": round(max(counted), 3), "tokens_read": round(mean(tokens[NUM_WARM_UP:]))
    }  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    texts = reviews(options.reviews)
    settings = {"HOOPER_MODELS": str(options.models), "HOOPER_SERVE": options.model, "HOOPER_DEVICE": options.device}
    with start_service(settings) as service:
        methods = {method: measure_method(service.address, options.model, texts, method) for method in ("shapley", "occlusion")}
    words = round(mean(len(text.split()) for text in texts))
    return {"model": options.model, "device": options.device, "reviews": len(texts), "words": words, "methods": methods}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.explain_latency", __doc__, "models", "model", "device")
    parser.add_argument("--reviews", type=int, default=15, metavar="N", help="how many are explained, at most (15)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
