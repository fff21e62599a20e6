"""Text classification: single-label and multi-label, texts and text pairs, any length by windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.core.types import Array, Row, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, refuse_text
from app.tasks.passage import Passage, sigmoid, softmax, words_of_window
from app.tasks.tokenizer import Pair, Side, Tokenizer, Window

Activation = Literal["softmax", "sigmoid", "none"]
Probability = Annotated[float, Field(ge=0, le=1)]
ProblemType = Literal["single_label_classification", "multi_label_classification"]
OUTPUT = "logits"
MAX_PAIR_CHARACTERS = 16_000
"""A pair's windows combine those of both texts: their number grows with the square of the length."""
MAX_PAIR_COST = (MAX_PAIR_CHARACTERS / 2 / 512) ** 2
"""Characters of one text times those of the other, over the square of a window's tokens, summed over a request: so many windows
there are, and so grows the memory that they take, to some hundred megabytes at this."""

MANY_LABELS, ROUNDING, SAME_SHAPE, TINY = 8, 0.25, 0.7, 1e-6
"""Of golden answers whose scores are all small: from so many labels on, and from so wide a spread of their logarithms on (int8
was seen to change them by 0.11), their pattern is compared, and may change by such a fraction of that spread."""

EVEN: Mapping[Activation, float] = {"sigmoid": 0.5, "none": 0.0}
"""The score of a label that is as likely as not; softmax has none, since its scores depend on the other labels."""
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ClassificationItem:
    text: str
    text_pair: str | None = None

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.text) + len(self.text_pair or "")

    @property
    def sequences(self) -> str | Pair:
        return self.text if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True, slots=True)
class ClassificationOptions:
    top_k: int | None = None
    activation: Activation | None = None
    truncation: Truncation = "window"
    truncation_side: Side | None = None
    """Which end of a longer text `truncate` cuts off; None: the one that the model's tokenizer cuts off."""
    threshold: float | None = None
    """Probability from which on a label is selected, of a model that may give a text several; None: the model's own."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class SelectableLabel(LabelScore):
    """Of a model that may give a text several labels."""

    selected: bool
    """Whether its probability reaches the threshold."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels with their scores, best first; labels of equal score stay in the model's order."""

    labels: Sequence[LabelScore]


class TextClassification:
    """Satisfies `Task`. Reads an output `logits` of axis `row`: (labels,)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Annotated[Sequence[str], Field(min_length=1)],
        problem_type: ProblemType = "single_label_classification",
        window_overlap: Annotated[int, Field(ge=0)] = 64,
        temperature: Annotated[float, Field(ge=1e-6)] = 1.0,
        thresholds: Mapping[str, Probability] | None = None,
    ) -> None:
        """
        Args:
            tokenizer: with the longest input.
            labels: in the order of the graph's outputs.
            problem_type: one label a text, or any number of them.
            window_overlap: tokens that neighbouring windows of a long text share.
            temperature: what logits are divided by before they become scores, so that those are probabilities of being right.
            thresholds: by label, the probability from which on it is selected where a text may have several; of labels that it
                does not name, one half.

        Raises:
            InvalidArtefact: a threshold is for no label, or for labels of which a text has one.
        """
        self._tokenizer = tokenizer
        # of a pair whose texts are both long a window holds half of each, which must be more than what windows share
        max_overlap = (tokenizer.max_tokens - tokenizer.num_special_tokens(pair=True)) // 2 - 1
        overlap = max(0, min(window_overlap, tokenizer.max_tokens // 4, max_overlap))
        self._windowed = tokenizer.with_windows(tokenizer.max_tokens, overlap)
        self._cutting: Mapping[Side, Tokenizer] = {
            side: tokenizer if side == tokenizer.side else tokenizer.cut_on(side) for side in ("right", "left")
        }
        self._temperature = temperature
        self.labels = tuple(labels)
        self.may_have_several = problem_type == "multi_label_classification"
        several = self.may_have_several or len(labels) == 1
        self._default_activation: Activation = "sigmoid" if several else "softmax"
        self._thresholds = self._checked_thresholds(thresholds or {})  # (labels,)

    def encode(self, items: Sequence[ClassificationItem], options: ClassificationOptions) -> list[Encoded | HooperError]:
        """One row per item, or one per window with `truncation="window"`."""
        refusal = self._refuse_threshold(options)
        if refusal is not None:
            return [refusal] * len(items)
        errors = self._errors_of(items)
        texts = [item.sequences for item, error in zip(items, errors, strict=True) if error is None]
        cutting = self._cutting[options.truncation_side or self._tokenizer.side]
        tokenizer = self._windowed if options.truncation == "window" else cutting
        windows = iter(tokenizer.windows(texts) if texts else [])
        return [error or self._encoded(next(windows), options.truncation) for error in errors]

    def _errors_of(self, items: Sequence[ClassificationItem]) -> list[HooperError | None]:
        """Why an item is not read; pairs together cost at most what one of the longest does, be they ever so many."""
        errors: list[HooperError | None] = []
        total_cost = 0
        for item in items:
            error = _refuse(item)
            # what has fewer characters than a window has tokens fits into one, or into a few of them
            cost = len(item.text) * len(item.text_pair or "") if len(item) > self._tokenizer.max_tokens else 0
            if error is None and total_cost + cost > MAX_PAIR_COST * self._tokenizer.max_tokens**2:
                error = self._too_much(total_cost)
            total_cost += cost if error is None else 0
            errors.append(error)
        return errors

    def _too_much(self, total_cost: int) -> TooLarge:
        if total_cost:
            return TooLarge("the long pairs of this request are too many together; send them in several requests")
        max_tokens = self._tokenizer.max_tokens
        return TooLarge(f"both texts of the pair are too long for a model that reads {max_tokens} tokens at once")

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: ClassificationOptions) -> Classification:
        """Scores from the logits, averaged over windows by the tokens each one read."""
        logits = outputs[0][OUTPUT]  # (labels,)
        if len(outputs) > 1:  # np.average takes longer than all the rest
            weights = [row.num_tokens for row in encoded.rows]
            logits = np.average([output[OUTPUT] for output in outputs], axis=0, weights=weights)
        logits = self._scaled(logits)
        activation = options.activation or self._default_activation
        calibrated = logits / self._temperature
        scores = activate(logits if activation == "none" else calibrated, activation)
        order = np.argsort(-scores, kind="stable")[: options.top_k]
        if not self.may_have_several:
            return Classification([LabelScore(self.labels[i], float(scores[i])) for i in order])
        # a threshold is of the model's own probabilities, in whatever scale the caller reads the scores
        probabilities = scores if activation == "sigmoid" else activate(calibrated, "sigmoid")
        selected = probabilities >= (self._thresholds if options.threshold is None else options.threshold)
        return Classification([SelectableLabel(self.labels[i], float(scores[i]), bool(selected[i])) for i in order])

    def _checked_thresholds(self, thresholds: Mapping[str, float]) -> Array:
        """In the order of the labels: (labels,)."""
        if thresholds and not self.may_have_several:
            raise InvalidArtefact("task_options.thresholds: a model that gives each text one label has no thresholds")
        unknown = sorted(thresholds.keys() - set(self.labels))
        if unknown:
            raise InvalidArtefact(f"task_options.thresholds: {unknown[0]!r} is no label of this model")
        return np.array([thresholds.get(label, DEFAULT_THRESHOLD) for label in self.labels])

    def _refuse_threshold(self, options: ClassificationOptions) -> InvalidInput | None:
        if options.threshold is None:
            return None
        if not self.may_have_several:
            return InvalidInput("is for models that give a text any number of labels; this one gives exactly one", "threshold")
        if options.activation not in (None, "sigmoid"):
            reason = "is compared with probabilities, which `sigmoid` gives; leave out `activation` or send that"
            return InvalidInput(reason, "threshold")
        return None

    def _scaled(self, logits: Array) -> Array:
        """What the model's outputs stand for."""
        return logits

    def decision(self, answer: Classification, options: ClassificationOptions) -> Decision | None:
        """The best label, also where an item may have several."""
        if not answer.labels or options.activation not in (None, self._default_activation):
            return None
        return Decision(answer.labels[0].label, answer.labels[0].score)

    def same_decision(self, answer: Classification, other: Classification, options: ClassificationOptions) -> bool:
        """Whether the same label is best; where an item may have several, whether the same ones are more likely than not."""
        return self._decided(answer, options) == self._decided(other, options)

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """Scores are compared label by label. The order counts only where the published scores differ by more than the
        tolerance: of many labels most score next to nothing, and rounding decides which of them comes first."""
        # the first window alone is what "truncate" reads, which was the default when older versions were published
        readings = [(encoded, outputs)] + [(replace(encoded, rows=encoded.rows[:1]), outputs[:1])] * (len(outputs) > 1)
        differences = [
            self._difference(self.decode(*reading, ClassificationOptions()), expected, tolerance) for reading in readings
        ]
        return "" if "" in differences else differences[0]

    def _difference(self, answer: Classification, expected: Any, tolerance: float) -> str:
        scores = {label.label: label.score for label in answer.labels}
        published: dict[str, float] = {entry["label"]: entry["score"] for entry in expected["labels"]}
        if scores.keys() != published.keys():
            return f"its labels differ: {', '.join(sorted(scores.keys() ^ published.keys()))}"
        for label, score in published.items():
            if not abs(scores[label] - score) <= tolerance:  # "not": NaN is no score
                return f"{label!r} scores {scores[label]:.4f}, was {score:.4f}"
        lowest = answer.labels[0].label
        for entry in answer.labels:  # best first
            if published[entry.label] > published[lowest] + tolerance:
                scored = f"{published[lowest]:.4f} and {published[entry.label]:.4f}"
                return f"{lowest!r} now comes before {entry.label!r}; published, they scored {scored}"
            lowest = min(lowest, entry.label, key=published.__getitem__)
        now, was = np.array([(scores[label], score) for label, score in published.items()]).T  # (labels,)
        return _difference_of_shape(now, was) if np.abs(was - was.mean()).max() <= tolerance else ""

    def _decided(self, answer: Classification, options: ClassificationOptions) -> set[str]:
        likely = EVEN.get(options.activation or self._default_activation)
        if self.may_have_several and likely is not None:
            return {label.label for label in answer.labels if label.score > likely}
        return {label.label for label in answer.labels[:1]}

    def passage(self, item: ClassificationItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for a label: of a text in several windows, the one that speaks most for it.

        Raises:
            InvalidInput: no label is called so.
        """
        best = self.decode(encoded, outputs, ClassificationOptions(top_k=1)).labels[0].label
        label = best if target is None else target
        if label not in self.labels:
            raise InvalidInput(f"{label!r} is no label of this model; it knows {', '.join(self.labels)}", "target")

        def read_score(output: RowOutput) -> float:
            return self._evidence(output[OUTPUT], self.labels.index(label))

        number = max(range(len(outputs)), key=lambda index: read_score(outputs[index]))
        window: Window = encoded.state[number]
        fields = {"text": item.text} if item.text_pair is None else {"text": item.text, "text_pair": item.text_pair}
        words = words_of_window(fields, window.sequence_ids, window.offsets)
        return Passage(encoded.rows[number], words, label, read_score, to_score=self._to_score)

    def _evidence(self, logits: Array, index: int) -> float:
        """What speaks for a label, on a scale on which words add up."""
        return log_odds(logits / self._temperature, index, self._default_activation)

    def _to_score(self, evidence: float) -> float:
        return sigmoid(evidence)

    def _encoded(self, windows: Sequence[Window], truncation: Truncation) -> Encoded | HooperError:
        is_cut = len(windows) > 1
        if is_cut and truncation == "error":
            return TooLarge(
                f"the text has more than {self._tokenizer.max_tokens} tokens, the longest this model reads",
                ("truncate", "window"),
            )
        row_windows = windows if truncation == "window" else windows[:1]
        rows = [Row(window.input_ids, window.token_type_ids) for window in row_windows]
        return Encoded(rows, sum(row.num_tokens for row in rows), is_cut and truncation == "truncate", row_windows)


def _difference_of_shape(now: Array, was: Array) -> str:
    """Of many labels each may score less than the tolerance, which then tells no model from another: the pattern does.

    The logarithms of a model's scores stay within a fraction of their spread under rounding; those of another model, of
    permuted labels or of equal scores differ by the whole spread at least.
    """
    old, new = np.log(np.clip(was, TINY, None)), np.log(np.clip(now, TINY, None))
    if len(was) < MANY_LABELS or old.std() < ROUNDING or (new - old).std() <= SAME_SHAPE * old.std():
        return ""
    return "all labels score next to nothing, as they did, but others the most"


def activate(logits: Array, activation: Activation) -> Array:
    """Logits (labels,) to scores (labels,), computed in double precision so that no score overflows."""
    wide = logits.astype(np.float64)
    if activation == "softmax":
        wide = softmax(wide)
    elif activation == "sigmoid":
        wide = 0.5 * (1.0 + np.tanh(0.5 * wide))
    scores: Array = wide.astype(np.float32)
    return scores


def log_odds(logits: Array, index: int, activation: Activation) -> float:
    """Log-odds of one label, from logits (labels,), in double precision so that they never saturate."""
    wide = logits.astype(np.float64)
    if activation != "softmax":
        return float(wide[index])
    other_logits = np.delete(wide, index)
    return float(wide[index] - other_logits.max() - np.log(np.exp(other_logits - other_logits.max()).sum()))


def _refuse(item: ClassificationItem) -> HooperError | None:
    error = refuse_text(item.text, "text")
    if error is None and item.text_pair is not None:
        error = refuse_text(item.text_pair, "text_pair")
    if error is not None:
        return error
    if item.text_pair is not None and len(item) > MAX_PAIR_CHARACTERS:
        return TooLarge(f"the pair has {len(item)} characters, at most {MAX_PAIR_CHARACTERS} are read")
    return None
