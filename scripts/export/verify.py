"""The parity gate: a graph answers held-out examples through production code, and must agree with torch."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.core.errors import EngineFailed, ProviderUnavailable, SetupError
from app.core.manifest import Graph, Parity
from app.core.types import Row, RowOutput
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.base import Task
from scripts.export.engine_trials import OpenVinoRunner, has_openvino_bf16
from scripts.export.optimize import weights_file
from scripts.export.rounding import write_simulated_bf16
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, RowRunner, largest_error, predict

NEIGHBOURS = 64
NEIGHBOUR_TOKENS = 8192
NEIGHBOUR_TOLERANCE = 1e-4
"""Of a logit; in parts of the largest one where that is more than 1, since summing in another order costs as much there."""
MAX_NAMED = 5


MAX_TIES = 0.02
"""Of the rows: ties beyond this share count as changed decisions, since a form with more of them is too coarse."""
REACH = 2.0
"""Median logit errors within which a decision is a tie: one logit may fall by one of them while another rises by one."""


class ParityFailed(SetupError):
    """The graph does not reproduce the torch model; it must not be published."""

    type = "parity_failed"
    larger_storage = ""
    """The next larger way to store weights, where that may help."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a graph must reach: the share of examples with the same prediction, ties apart, and the largest error of a logit."""

    name: str
    agreement: float
    max_abs_error: float = math.inf

    def max_changed(self, num_rows: int) -> int:
        """Decisions that may change: of few rows one, for less than that no share can be told."""
        return max(1, math.floor(round(num_rows * (1 - self.agreement), 6)))


EXPORTED = Gate("the exported fp32 graph", 0.999, 1e-3)
QUANTIZED = Gate("the graph with quantized weights", 0.995)
LARGER_STORAGE = {"int8": "fp16", "fp16": "fp32"}
BF16 = Gate("the graph in bf16", 0.995)
BF16_ROWS = 1_000
"""Held-out examples on which results are rounded to bf16 at most, drawn where there are more."""
INT8 = Gate("the graph that multiplies int8", 0.995)
INT7 = Gate("the graph that multiplies int8 by weights of 7 bits", 0.995)
FP16 = Gate("the graph in fp16", 0.995)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answers of a graph differ from those of torch."""

    parity: Parity
    num_not_finite: int
    disagreeing: Sequence[str]
    """Where the examples stand whose predictions differ."""
    difference: str = ""
    """What differs between all predictions together, as a clause."""

    def __str__(self) -> str:
        count, ties = len(self.disagreeing), self.parity.ties
        examples = f" ({', '.join(self.disagreeing[:MAX_NAMED])}{', …' if count > MAX_NAMED else ''})" if count else ""
        return (
            f"agreement {self.parity.agreement_to_show:.4f}, {count} of {self.parity.rows} predictions differ{examples},"
            f"{f' {ties} of them ties,' if ties else ''}"
            f" largest logit error {self.parity.max_abs_error:.2g}, {self.num_not_finite} with logits that are not finite"
            f"{f', and {self.difference}' if self.difference else ''}"
        )


@dataclass(frozen=True)
class Reference:
    """The torch model's answers to the held-out examples, and the production task that reads them."""

    training: TrainingTask
    task: Task[Any, Any, Any]
    task_options: Mapping[str, Any]
    examples: Sequence[Example]
    predictions: Predictions
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Figures of what was fitted on the held-out predictions."""

    @property
    def rows(self) -> list[Row]:
        """Of all examples."""
        return [row for item in self.predictions.encoded for row in item.rows]

    def predict(self, runner: RowRunner, title: str) -> Predictions:
        return predict(self.task, self.training.serving_options(), [example.item for example in self.examples], runner, title)

    def verify(self, graph_file: Path, graph: Graph, gate: Gate) -> tuple[Parity, Predictions]:
        """Run the graph on the CPU in fp32; a packed one must also give each row the same answer whatever lies beside it.

        Raises:
            ParityFailed: it misses the gate, gives a number that is not finite, or rows feel their neighbours.
        """
        session = EncoderEngine(graph_file, graph, choose_provider("cpu"))
        try:
            predictions = self.predict(session, "verifying")
        except EngineFailed as error:
            raise ParityFailed(f"{gate.name} failed on a held-out example: {error}") from error
        comparison = self.compare(predictions, gate)
        if not comparison.parity.passed:
            failure = ParityFailed(
                f"{gate.name} does not reproduce the torch model: {comparison}; {describe_gate(gate, len(self.examples))}"
            )
            failure.larger_storage = LARGER_STORAGE.get(graph.storage, "")
            raise failure
        check_neighbours(session, self.rows)
        return comparison.parity, predictions

    def measure_bf16(self, graph_file: Path, graph: Graph) -> Comparison | None:
        """Parity in bf16 through OpenVINO where this machine has it, else by rounding on at most `BF16_ROWS` examples. Passed
        or not, it is recorded: the service only takes a precision that passed. None: the graph cannot be tried."""
        try:
            runner = bf16_runner(graph_file, graph)
            if runner is None:
                return self.sample(BF16_ROWS).measure_rounded(graph_file, graph)
            return self.compare(self.predict(runner, "verifying bf16"), BF16)
        except ProviderUnavailable:  # the plug-in is there, but will not take this graph: nor will the service's
            return None
        except Exception:  # whatever the engine raises: it must not be chosen, and nothing else depends on it
            return self.failed_comparison()

    def measure_rounded(self, graph_file: Path, graph: Graph) -> Comparison | None:
        """Parity of a copy whose every result is rounded to bf16; None where it does not fit into one message of protobuf."""
        if weights_file(graph_file) is not None:
            return None
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            rounded = Path(folder) / graph_file.name
            write_simulated_bf16(graph_file, rounded)
            session = EncoderEngine(rounded, graph, replace(choose_provider("cpu"), precision="bf16"))
        return self.compare(self.predict(session, "verifying bf16"), BF16)

    def sample(self, count: int) -> Reference:
        """The same over `count` of the examples, drawn at random, where there are more; 0: over all."""
        if not 0 < count < len(self.examples):
            return self
        numbers = sorted(random.Random(0).sample(range(len(self.examples)), count))
        all_of_them = self.predictions
        predictions = Predictions(
            [all_of_them.answers[number] for number in numbers],
            [all_of_them.encoded[number] for number in numbers],
            [all_of_them.outputs[number] for number in numbers],
        )
        return replace(self, examples=[self.examples[number] for number in numbers], predictions=predictions)

    def compare(self, candidate: Predictions, gate: Gate) -> Comparison:
        """Example by example: an example with a logit that is not finite counts as another prediction, and is no tie."""
        errors = [largest_error(*pair) for pair in zip(self.predictions.outputs, candidate.outputs, strict=True)]
        finite = [math.isfinite(error) for error in errors]
        largest = max((error for error in errors if math.isfinite(error)), default=0.0)
        pairs = zip(self.predictions.answers, candidate.answers, strict=True)
        options = self.training.serving_options()
        changed = [
            number
            for number, (answer, other) in enumerate(pairs)
            if not finite[number] or not self.task.same_decision(answer, other, options)
        ]
        count = len(self.examples)
        ties = self._count_ties(candidate, [number for number in changed if finite[number]])
        counted = len(changed) - min(ties, math.floor(round(MAX_TIES * count, 6)))
        difference = self.training.set_difference(self.predictions.answers, candidate.answers) if all(finite) else ""
        passed = all(finite) and counted <= gate.max_changed(count) and largest <= gate.max_abs_error and not difference
        agreement = 1 - len(changed) / count
        parity = Parity(rows=count, agreement=agreement, ties=ties, max_abs_error=largest, passed=passed)
        return Comparison(parity, finite.count(False), [self.examples[number].where for number in changed], difference)

    def _count_ties(self, candidate: Predictions, changed: Sequence[int]) -> int:
        """How many of the examples whose decision changed the reference itself decides by less than rounding moves it."""
        if not changed:
            return 0
        reach = REACH * median_error(self.predictions, candidate)
        return sum(
            self.training.is_tie(
                self.task,
                self.examples[number].item,
                self.predictions.encoded[number],
                self.predictions.outputs[number],
                candidate.answers[number],
                reach,
            )
            for number in changed
        )

    def failed_comparison(self) -> Comparison:
        parity = Parity(rows=len(self.examples), agreement=0.0, max_abs_error=0.0, passed=False)
        return Comparison(parity, len(self.examples), [])


def bf16_runner(graph_file: Path, graph: Graph) -> RowRunner | None:
    """OpenVINO in bf16: through ONNX Runtime as the service does it, else by itself, else not at all."""
    try:
        provider = choose_provider("openvino")
    except ProviderUnavailable:
        return OpenVinoRunner(graph_file, graph) if has_openvino_bf16() else None
    return EncoderEngine(graph_file, graph, provider) if provider.precision == "bf16" else None


def median_error(reference: Predictions, candidate: Predictions) -> float:
    """The median over examples of the median by which an example's logits differ; what is not finite is left out."""
    pairs = (
        pair
        for rows, others in zip(reference.outputs, candidate.outputs, strict=True)
        for pair in zip(rows, others, strict=True)
    )
    errors = [np.concatenate([np.abs(np.subtract(other[name], row[name])).ravel() for name in row]) for row, other in pairs]
    medians = [float(np.median(values)) for values in errors if values.size and np.isfinite(values).all()]
    return float(np.median(medians)) if medians else 0.0


def describe_gate(gate: Gate, num_rows: int) -> str:
    """What was wanted, as a clause."""
    changed = gate.max_changed(num_rows)
    error = f" and an error of at most {gate.max_abs_error:g}" if math.isfinite(gate.max_abs_error) else ""
    plural = "s" if changed > 1 else ""
    return (
        f"allowed: at most {changed} changed prediction{plural} of {num_rows:,} rows ({gate.agreement:.1%} agreement"
        f"; ties, at most {MAX_TIES:.0%} of the rows, left out){error}"
    )


class TensorRunner(Protocol):
    """What computes rows in one tensor, however different their lengths."""

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]: ...


def check_neighbours(session: TensorRunner, rows: Sequence[Row], seed: int = 0) -> None:
    """Draw rows, the shortest and the longest among them, run each alone and then all of them in one tensor.

    Raises:
        ParityFailed: a logit moved by more than the tolerance: a row felt its neighbours.
    """
    sample = _draw(rows, seed)
    single = [session.run_together([row])[0] for row in sample]
    together = session.run_together(sample)
    errors = [largest_error([expected], [output]) for expected, output in zip(single, together, strict=True)]
    _refuse_moved(errors, single, "feel their neighbours")


def check_other_neighbours(session: TensorRunner, rows: Sequence[Row], seed: int = 0) -> None:
    """Run rows in one tensor, then again in the same places beside others of the same length.

    This is for engines that round. Alone, a row may be answered a little differently there, since a tensor of another shape is
    summed in another order, and a last bit decides which way something is rounded; what its neighbours say must decide nothing.

    Raises:
        ParityFailed: a logit moved by more than the tolerance.
    """
    sample = _draw(rows, seed)
    generator = random.Random(seed)
    words = [token for row in sample for token in row.input_ids[1:-1]] or [0]
    before = session.run_together(sample)
    errors = []
    for position in (0, 1):
        mixed = [
            row if number % 2 == position else _with_other_words(row, words, generator) for number, row in enumerate(sample)
        ]
        after = session.run_together(mixed)
        errors += [largest_error([before[number]], [after[number]]) for number in range(position, len(sample), 2)]
    _refuse_moved(errors, before, "feel what their neighbours say")


def _refuse_moved(errors: Sequence[float], outputs: Sequence[RowOutput], what: str) -> None:
    largest = max(float(np.abs(values).max(initial=0.0)) for output in outputs for values in output.values())
    allowed = NEIGHBOUR_TOLERANCE * max(1.0, largest)
    moved = [error for error in errors if not error <= allowed]  # also where it is NaN
    if moved:
        raise ParityFailed(
            f"{len(moved)} of {len(errors)} rows {what}: a logit moved by {max(moved):.2g}, allowed are {allowed:.2g}"
        )


def _with_other_words(row: Row, words: Sequence[int], generator: random.Random) -> Row:
    """A row of the same length and marks that says something else."""
    ids = [row.input_ids[0], *generator.choices(words, k=max(0, row.num_tokens - 2)), row.input_ids[-1]]
    return replace(row, input_ids=ids[: row.num_tokens])


def _draw(rows: Sequence[Row], seed: int) -> list[Row]:
    """The shortest row, the longest, and others at random, as many as make one tensor."""
    ordered = sorted(rows, key=lambda row: row.num_tokens)
    shuffled = random.Random(seed).sample(ordered[1:-1], len(ordered[1:-1]))
    count = min(NEIGHBOURS, max(2, NEIGHBOUR_TOKENS // ordered[-1].num_tokens))
    return [*ordered[:1], *ordered[1:][-1:], *shuffled][:count]
