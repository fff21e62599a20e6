"""Many items at once, where only the time for all of them counts: rows run in the order that fills batches best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from app.batching.policy import offline_order
from app.batching.scheduler import SubmissionResult
from app.runtime.layout import PACKED_WIDTH
from app.serving.deployment import Deployment, Prediction, Timings
from app.tasks.base import Encoded


async def predict_bulk(deployment: Deployment, items: Sequence[Any], options: Any) -> Prediction:
    """As `Deployment.predict`, for hundreds of items of which none is urgent.

    Raises:
        Unavailable, TooLarge: for the items as a whole.
    """
    began = time.monotonic()
    encoded = await deployment.encode(items, options)
    tokenize_s = time.monotonic() - began
    rows = [row for one in encoded if isinstance(one, Encoded) for row in one.rows]
    order = offline_order([row.num_tokens for row in rows], deployment.scheduler.budget.layout, PACKED_WIDTH)
    ran = await deployment.scheduler.submit([rows[index] for index in order]) if rows else SubmissionResult([], 0.0, 0.0)
    outputs = dict(zip(order, ran.outputs, strict=True))
    results = await deployment.decode(encoded, [outputs[index] for index in range(len(rows))], options)
    timings = Timings(tokenize_s, ran.queue_s, ran.inference_s, ran.batch_rows)
    deployment.measure(results, timings)
    return Prediction(results, timings)
