"""Which words made the model decide: the service's own attribution, asked of a runner in place of a queue."""

from __future__ import annotations

from typing import Any

from app.core.errors import HooperError
from app.tasks.attribution import METHODS, Spending
from scripts.report.judged import Judged

BUDGET = Spending(2048)


def words_for(judged: Judged, index: int, target: str | None) -> list[dict[str, Any]]:
    """The item's words with their weights in log-odds of the target; none where it cannot be explained.

    Args:
        judged: whose item.
        index: its number.
        target: the label or answer; None: the model's own.
    """
    item, encoded = judged.examples[index].item, judged.predictions.encoded[index]
    try:
        passage = judged.task.passage(item, encoded, judged.predictions.outputs[index], target)
    except HooperError:
        return []
    search = METHODS["shapley"](passage, BUDGET)
    wave = next(search)
    while True:
        outputs = judged.runner.run_rows([passage.without(keep) for keep in wave])
        try:
            wave = search.send([passage.log_odds(output) for output in outputs])
        except StopIteration as end:
            return [
                {"field": word.field, "start": word.start, "end": word.end, "weight": round(float(weight), 4)}
                for word, weight in zip(passage.words, end.value.weights, strict=True)
            ]
