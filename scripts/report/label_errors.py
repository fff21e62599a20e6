"""Which held-out labels are likely wrong themselves, for a person to look at.

Source: confident learning, Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021).
Its scores must be of texts that the model was not trained on; those held out are.
"""

from __future__ import annotations

import numpy as np


def likely_label_errors(scores: np.ndarray, given: np.ndarray) -> list[tuple[int, int]]:
    """Rows that are confidently counted under another label than their own, the clearest first.

    Args:
        scores: (rows, labels), each row adding up to 1.
        given: the rows' own labels, as numbers: (rows,).

    Returns:
        Of each such row its number and that of the label it more likely has. A row counts under a label when its score
        reaches the mean score of the rows that were given this label; of several, under that of the highest score.
    """
    numbers = np.arange(scores.shape[1])
    usual = np.array([scores[given == one, one].mean() if (given == one).any() else np.inf for one in numbers])  # (labels,)
    reached = np.where(scores >= usual, scores, -np.inf)
    better = reached.argmax(-1)
    is_off = (reached.max(-1) > -np.inf) & (better != given) & (scores.argmax(-1) == better)
    margin = np.take_along_axis(scores, better[:, None], 1)[:, 0] - np.take_along_axis(scores, given[:, None], 1)[:, 0]
    return [(int(row), int(better[row])) for row in np.flatnonzero(is_off)[np.argsort(-margin[is_off], kind="stable")]]
