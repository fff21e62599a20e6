"""What a report says of question answering and of summarization."""

from __future__ import annotations

from typing import Any

import numpy as np

from scripts.report.judged import Judged
from scripts.report.lengths import by_length
from scripts.training.metrics import f1, rouge

MOST_WORST = 20


def answers(judged: Judged, most: int = MOST_WORST) -> dict[str, Any]:
    """F1 by length, and the answers furthest from the right one, the surest first."""
    guessed = [one.answers[0].answer if one.answers else "" for one in judged.predictions.answers]
    scores = [one.answers[0].score if one.answers else one.no_answer_score for one in judged.predictions.answers]
    golds = [[gold.text for gold in one.target] for one in judged.examples]
    f1s = np.array([f1(guess, gold) for guess, gold in zip(guessed, golds, strict=True)])
    order = np.lexsort([-np.array(scores), f1s])
    worst = [
        {
            "where": judged.examples[i].where,
            "fields": {"question": judged.examples[i].item.question, "context": judged.examples[i].item.context},
            "right": list(dict.fromkeys(golds[i])) or ["(no answer)"],
            "guessed": [guessed[i] or "(no answer)"],
            "score": round(float(scores[i]), 4),
            "f1": round(float(f1s[i]), 4),
            "words": [],
        }
        for i in order[:most]
        if f1s[i] < 1
    ]
    return {
        "by_length": by_length(judged.lengths, f1s.tolist(), False),
        "worst": worst,
    }


def summaries(judged: Judged, most: int = MOST_WORST) -> dict[str, Any]:
    """ROUGE-1 by length, and the summaries that say least of what the reference says."""
    made = [[one.text for one in answer.sentences] for answer in judged.predictions.answers]
    references = [one.target.sentences for one in judged.examples]
    found = [rouge(reference, summary)["rouge1"] for reference, summary in zip(references, made, strict=True)]
    worst = [
        {
            "where": judged.examples[i].where,
            "fields": {"text": judged.examples[i].item.text},
            "right": [" ".join(references[i])],
            "guessed": [" ".join(made[i])],
            "rouge1": round(float(found[i]), 2),
            "words": [],
        }
        for i in np.argsort(found, kind="stable")[:most]
    ]
    return {"by_length": by_length(judged.lengths, [value / 100 for value in found], False), "worst": worst}
