"""Hard negatives: questions beside a similar context that does not answer them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from app.tasks.question_answering.task import QuestionItem
from scripts.training.data import Example

NEAREST = 5
"""The context is drawn from so many nearest ones: always the nearest would favour a few contexts."""


def unanswered(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """New examples without an answer, `share` times as many as there are; nearness is that of TF-IDF vectors.

    A context is passed over when it holds the text of an answer, whatever it means there.
    """
    generator = random.Random(seed)
    drawn = generator.sample(range(len(examples)), min(len(examples), round(share * len(examples))))
    contexts = list(dict.fromkeys(one.item.context for one in examples))
    if not drawn or len(contexts) < 2:
        return []
    vectors = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        matrix = vectors.fit_transform(contexts)  # (contexts, words)
    except ValueError:  # nothing but stop words
        return []
    made = []
    for index in drawn:
        one = examples[index]
        near = (matrix @ vectors.transform([one.item.question]).T).toarray()[:, 0]  # (contexts,)
        ranked = np.argsort(-near, kind="stable")[: 4 * NEAREST]
        good = [contexts[i] for i in ranked if contexts[i] != one.item.context and not _holds(contexts[i], one)]
        if good:
            item = QuestionItem(one.item.question, generator.choice(good[:NEAREST]))
            made.append(replace(one, item=item, target=(), where=f"{one.where} (another context)"))
    return made


def _holds(context: str, example: Example) -> bool:
    lowered = context.lower()
    return any(gold.text.lower() in lowered for gold in example.target)
