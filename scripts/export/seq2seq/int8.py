"""A decoder's step in int8: how its graph is written, and the gate that it has to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app.core.manifest import Parity
from app.core.sequences import SamplingParams
from app.core.types import Precision, Row
from scripts.export.formatting import Say, describe_parity, metric_name
from scripts.export.optimize import MIN_WEIGHTS, files_of, save
from scripts.export.publish import VersionContents
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.seq2seq.reading import ReadingProducts, evening_of, may_read, names_read
from scripts.export.seq2seq.rows import write_int8_rows
from scripts.export.seq2seq.runner import WriterRunner
from scripts.export.seq2seq.steps import AGREEMENT, GraphReference, Graphs, StepReference, compare_steps, different_rows
from scripts.export.variants import MAX_INT8, MICROSOFT, ZERO_POINT, share_weights
from scripts.export.verify import ParityFailed
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, encode_all, predict

INT8_DECODER = "decoder.int8.onnx"
HEADS = {"logits", "head"}
"""Outputs of the product that gives the logits, before a cap on them where there is one."""
BLOCK = 64
"""Weights of an output that share a scale, as do the numbers of a row that they are multiplied with."""
INT8_LEVEL = 4
"""Of `MatMulNBits`: what is multiplied with the weights is rounded to int8, each row and block by a scale of its own."""
MAX_LOSS = 0.3
"""Points by which a metric of the held-out rows may be worse in int8."""
MIN_REFERENCES = 200
"""Of fewer rows such a difference is chance: there the first tokens are compared."""
MIN_TOKENS = 200
"""Of fewer, not even one may be another without being nearly tied."""
GATE = f"allowed: a metric worse by {MAX_LOSS:g}; without references {1 - AGREEMENT:.1%} other tokens, ties left out"
NUM_TOGETHER = 16
"""Texts that are written beside each other, and then beside others."""
NEAR_BESIDE_OTHERS = 0.1
"""Of fewer or more rows a product is summed in another order, after which a number may be rounded to the next whole one: logits
closer than this may change places. With one scale for a batch they would move by more."""


Pack = Callable[[NodeProto, np.ndarray, np.ndarray | None], tuple[list[TensorProto], NodeProto]]
"""From a product, its weights, (outputs, inputs), and the scales of its outputs where they are stored as int8, (outputs, 1), to
tensors and the operator in its place."""


def write_int8_step(source: Path, target: Path, min_weights: int = MIN_WEIGHTS) -> bool:
    """Write the form of a step's graph that multiplies int8 by int8, beside it; see `write_products`."""
    return write_products(source, target, min_weights, int8_product)


def write_products(source: Path, target: Path, min_weights: int, pack: Pack) -> bool:
    """Write a form of a step's graph beside it. Attention and normalization stay in fp32, and so does the table of words, which
    is read out of `source`: the form is bound to that very file.

    Args:
        source: the step's graph, however its weights are stored.
        target: in the same folder.
        min_weights: of a matrix; smaller ones stay in fp32.
        pack: what takes the place of a product.

    Returns:
        Whether there is such a form: a graph of small matrices has none.
    """
    model = onnx.load(source)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    unpacking = {node.output[0]: node for node in model.graph.node if node.input and stored.keys() >= set(node.input)}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    large = [node for node in gemms if np.prod(_shape(node.input[1], stored, unpacking) or 0) >= min_weights]
    if not large:
        return False
    of_all_tokens = [node for node in large if may_read(model.graph) and node.output[0] not in HEADS]
    matrices = ((node.input[0], _unpacked(node.input[1], stored, unpacking)) for node in of_all_tokens)
    reading = ReadingProducts(evening_of(source, matrices) if of_all_tokens else {})
    packed: dict[str, TensorProto] = {}
    nodes: list[NodeProto | None] = []
    for node in model.graph.node:
        if node not in large:
            nodes.append(node)
            continue
        weights = _unpacked(node.input[1], stored, unpacking)
        tensors, product = pack(node, weights, _scales(node.input[1], stored, unpacking))
        packed.update({tensor.name: tensor for tensor in tensors})
        nodes.append(reading.choice(node, weights, product) if node in of_all_tokens else product)
    model.graph.initializer.extend([*packed.values(), *reading.tensors()])
    _keep_used(model, [*reading.question(), *filter(None, nodes)])
    for part in files_of(source):
        share_weights(model, part, stored.keys())
    save(model, target)
    return True


def int8_product(node: NodeProto, weights: np.ndarray, scales: np.ndarray | None) -> tuple[list[TensorProto], NodeProto]:
    """Satisfies `Pack`."""
    return _in_blocks(weights, node.input[1], scales), _product(node, *weights.shape)


def _shape(name: str, stored: Mapping[str, TensorProto], unpacking: Mapping[str, NodeProto]) -> Sequence[int]:
    """Of a matrix that is stored in the graph, as it is or small; of anything else nothing."""
    node = unpacking.get(name)
    tensor = stored.get(name if node is None else node.input[0])
    return () if tensor is None else tuple(tensor.dims)


def _unpacked(name: str, stored: Mapping[str, TensorProto], unpacking: Mapping[str, NodeProto]) -> np.ndarray:
    """A matrix in fp32, (outputs, inputs)."""
    node = unpacking.get(name)
    if node is None:
        return numpy_helper.to_array(stored[name])
    matrix: np.ndarray = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
    if node.op_type == "Cast":
        return matrix
    scaled: np.ndarray = matrix * numpy_helper.to_array(stored[node.input[1]])[:, None]  # a scale for each output
    return scaled


def _scales(name: str, stored: Mapping[str, TensorProto], unpacking: Mapping[str, NodeProto]) -> np.ndarray | None:
    """Of each output of a matrix that is stored as int8, (outputs, 1); None: it is stored otherwise."""
    node = unpacking.get(name)
    if node is None or node.op_type == "Cast":
        return None
    return numpy_helper.to_array(stored[node.input[1]])[:, None]


def _in_blocks(weights: np.ndarray, name: str, scales: np.ndarray | None) -> list[TensorProto]:
    """uint8 weights around 128, (outputs, blocks, block), and their scales, (outputs, blocks); a block that is too long ends in
    zeros. With the scales that int8 weights were stored by they stay what they are, and are not rounded again."""
    outputs, inputs = weights.shape
    blocks = np.zeros((outputs, -(-inputs // BLOCK), BLOCK), np.float32)
    blocks.reshape(outputs, -1)[:, :inputs] = weights
    largest = np.abs(blocks).max(axis=-1)
    if scales is None:
        scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(MAX_INT8)
    scales = np.ascontiguousarray(np.broadcast_to(scales, largest.shape))
    rounded = np.clip(np.rint(blocks / scales[..., None]), -MAX_INT8, MAX_INT8) + ZERO_POINT
    return [
        numpy_helper.from_array(rounded.astype(np.uint8), f"{name}_blocks"),
        numpy_helper.from_array(scales, f"{name}_scales"),
    ]


def _product(node: NodeProto, outputs: int, inputs: int) -> NodeProto:
    x, weights, *bias = node.input
    given = [x, f"{weights}_blocks", f"{weights}_scales", *(["", "", *bias] if bias else [])]
    shape: dict[str, Any] = {"N": outputs, "K": inputs, "bits": 8, "block_size": BLOCK, "accuracy_level": INT8_LEVEL}
    return helper.make_node("MatMulNBits", given, node.output, node.name, domain=MICROSOFT, **shape)


def _keep_used(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """These nodes, without those that only unpacked what was replaced, and with the weights that they read."""
    read = set().union(*map(names_read, nodes)) | {output.name for output in model.graph.output}
    kept = [node for node in nodes if read.intersection(node.output)]
    read = set().union(*map(names_read, kept))
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensors)


# --- the gate


@dataclass(frozen=True)
class HeldOut:
    """What a model's two ways to write are compared on."""

    training: TrainingTask
    task: Any
    """The production task."""
    task_options: Mapping[str, Any]
    examples: Sequence[Example]
    is_labelled: bool
    predictions: Predictions | None = None
    """Of the graphs in fp32, with the task's serving options, where they are known."""
    reference: StepReference | None = None
    """Texts and the logits of the graphs in fp32 on their way, where they are known."""


@dataclass(frozen=True)
class Int8Comparison:
    """How a step in int8 differs from the step in fp32."""

    parity: Parity
    """Its rows are tokens, each of them behind what the graphs write in fp32."""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of the held-out rows, in fp32 and in that precision."""
    precision: Precision = "int8"

    def __str__(self) -> str:
        figures = [f"{metric_name(name)} {before:.2f}, then {after:.2f}" for name, (before, after) in self.metrics.items()]
        return "; ".join([describe_parity(self.parity, "fp32"), *figures])

    def as_json(self) -> dict[str, Any]:
        """What evaluation.json says of it."""
        metrics = {name: {"fp32": before, self.precision: after} for name, (before, after) in self.metrics.items()}
        return {**self.parity.model_dump(), **({"metrics": metrics} if metrics else {})}


def measure_int8(
    graphs: Graphs, int8_file: Path, max_tokens: int, held_out: HeldOut, precision: Precision = "int8"
) -> Int8Comparison:
    """Compare a step in int8 with the one that it was made of.

    It passes where no metric of the held-out rows is more than `MAX_LOSS` worse. Of fewer than `MIN_REFERENCES` rows, and
    without references, the first tokens of at most 48 texts must be as often the same as those of graphs with smaller weights.

    Args:
        graphs: of the version, in fp32 however they are stored.
        int8_file: what `write_int8_step` wrote.
        max_tokens: of the longest source.
        held_out: what both write for.
        precision: of the form.

    Raises:
        ParityFailed: what is written depends on what is written beside it.
    """
    in_int8 = in_form(graphs, int8_file)
    task, training = held_out.task, held_out.training
    options = replace(task.golden_options(), truncation="truncate")
    items = [example.item for example in held_out.examples]
    rows, sampling = different_rows(encode_all(task, options, items)), task.sampling(options)
    check_companions(in_int8, max_tokens, rows, sampling, precision)
    parity = compare_steps(held_out.reference or GraphReference(graphs, max_tokens, rows, sampling), in_int8)
    if not held_out.is_labelled or len(items) < MIN_REFERENCES:
        return Int8Comparison(parity.model_copy(update={"passed": parity.passed and is_enough(parity)}), precision=precision)
    options = training.serving_options()

    def headline(writer: Graphs, predictions: Predictions | None = None) -> dict[str, float]:
        if predictions is None:
            runner = WriterRunner(writer, max_tokens, task.sampling(options))
            predictions = predict(task, options, items, runner, f"verifying {precision}")
        evaluation = training.evaluate(predictions.answers, held_out.examples, held_out.task_options)
        return {name: figure for name, figure in evaluation["headline"].items() if name != "rows"}

    before, after = headline(graphs, held_out.predictions), headline(in_int8)
    passed = all(round(before[name] - after[name], 2) <= MAX_LOSS for name in before)  # figures have two decimals
    metrics = {name: (before[name], after[name]) for name in before}
    return Int8Comparison(parity.model_copy(update={"passed": passed}), metrics, precision)


def in_form(graphs: Graphs, file: Path) -> Graphs:
    """With this form of the step in place of their own."""
    decoder = graphs.decoder.model_copy(update={"file": file.name, "storage": "fp32"})  # it is loaded as it lies there
    return replace(graphs, decoder_file=file, decoder=decoder)


def is_enough(parity: Parity) -> bool:
    """Whether what agrees says something of texts that were not compared: of few tokens none may be another one. A chat
    model of 135 million weights wrote 59 of 60 tokens of three texts alike, and nonsense for the fourth."""
    return parity.rows >= MIN_TOKENS or round((1 - parity.agreement) * parity.rows) <= parity.ties


def check_companions(
    graphs: Graphs, max_tokens: int, rows: Sequence[Row], sampling: SamplingParams, precision: Precision = "int8"
) -> None:
    """Write for rows together, then for each half of them again, in the same places beside others.

    Raises:
        ParityFailed: a text became another one, and not by a token that was nearly tied.
    """
    if not graphs.has_encoder:  # they are read one by one: long ones would show nothing more
        rows = rows[: max(NUM_TOGETHER, len(rows) // 2)]
    rows = rows[:: max(1, len(rows) // NUM_TOGETHER)][:NUM_TOGETHER]
    writer = WriterRunner(graphs, max_tokens, sampling)

    @cache  # which loads the graphs once more, where something differs at all
    def alone() -> GreedyWriter:
        return GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)

    def write(rows: Sequence[Row]) -> list[list[int]]:
        return [output["token_ids"].tolist() for output in writer.run_rows(rows)]

    def is_tie(row: Row, written: Sequence[int], other: Sequence[int]) -> bool:
        place = next((place for place, both in enumerate(zip(written, other, strict=False)) if both[0] != both[1]), None)
        if place is None:  # one of them goes on where the other ends
            return False
        logits = alone().logits_after(row, written[: place + 1])[-1]
        return bool(abs(logits[written[place]] - logits[other[place]]) < NEAR_BESIDE_OTHERS)

    before = write(rows)
    for kept in (0, 1):
        mixed = [row if place % 2 == kept else rows[place - 1] for place, row in enumerate(rows)]
        after = write(mixed)
        others = [place for place in range(kept, len(rows), 2) if before[place] != after[place]]
        if not all(is_tie(rows[place], before[place], after[place]) for place in others):
            raise ParityFailed(f"in {precision} what is written for a text depends on what is written beside it")


def graphs_of(contents: VersionContents) -> Graphs:
    """Of a version that writes, before it is published."""
    decoder = contents.decoder
    if decoder is None:
        raise TypeError(f"{contents.name} does not write")
    files = [*contents.decoder_files, contents.verified.file]  # without an encoder it is the one that was verified
    file = next(file for file in files if file.name == decoder.file)
    return Graphs(contents.verified.file, contents.verified.graph, file, decoder)


Writer = Callable[[Path, Path], bool]
"""Writes a form of a step, from its file to another one; whether there is such a form."""


def compare_forms(
    writers: Sequence[Writer], graphs: Graphs, file: Path, max_tokens: int, held_out: HeldOut, say: Say
) -> Int8Comparison | None:
    """Write one form after the other, until one passes.

    Args:
        writers: the fastest first.
        graphs, max_tokens, held_out: as for `measure_int8`.
        file: where the form lies in the end: the one that passed, else the last one.
        say: told of a form that did not pass, where there is another one.

    Returns:
        How it differs; None: there is no form.

    Raises:
        ParityFailed: what the last one writes depends on what is written beside it.
    """
    failed: Int8Comparison | ParityFailed | None = None
    for write in writers:
        if not write(graphs.decoder_file, file):
            continue
        if failed is not None:
            say("", f"decoder in int8, with a scale for each row: {failed}; it gets one for each block")
        try:
            failed = measure_int8(graphs, file, max_tokens, held_out)
        except ParityFailed as error:
            failed = error
        else:
            if failed.parity.passed:
                return failed
    if isinstance(failed, ParityFailed):
        raise failed
    return failed


def with_int8(contents: VersionContents, held_out: HeldOut, say: Say) -> VersionContents:
    """The version with a step in int8 beside the other one, where it passes its gate; what was measured is noted in any case.

    Args:
        contents: of a version that writes.
        held_out: what both are compared on.
        say: told what came of it.
    """
    graphs = graphs_of(contents)
    file = graphs.decoder_file.with_name(INT8_DECODER)
    try:
        comparison = compare_forms((write_int8_rows, write_int8_step), graphs, file, contents.max_tokens, held_out, say)
    except ParityFailed as failure:
        say("", f"decoder in int8: {failure}; it will not be used")
        return contents
    if comparison is None:
        return contents
    verdict = "" if comparison.parity.passed else "; it failed, and will not be used"
    say("", f"decoder in int8, {comparison}{verdict}")
    parity = {**contents.verified.parity, "int8": comparison.parity}
    evaluation = {**contents.evaluation, "int8": comparison.as_json()}
    contents = replace(contents, verified=replace(contents.verified, parity=parity), evaluation=evaluation)
    if not comparison.parity.passed:
        return contents
    decoder = graphs.decoder.model_copy(update={"variants": {"int8": file.name}})
    return replace(contents, decoder=decoder, decoder_files=[*contents.decoder_files, *files_of(file)])
