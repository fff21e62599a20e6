"""Products of a step that reads several tokens of a text: whole numbers with a scale for each row, beside those in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from scripts.export.seq2seq.rows import ZERO_POINT, rounding_constants, rounding_of_rows, whole_product
from scripts.export.variants import MAX_INT8

IS_READING = "is_reading"
NUM_DRAWN, DRAWN_TOKENS = 32, 16
"""Texts of tokens that are drawn, by which features are made even, and how long they are."""
MIN_FEATURE = 0.1
"""In parts of the median: a feature that is smaller in them may be larger in others."""


class ReadingProducts:
    """Lets a graph multiply otherwise while it reads: where it is given more than one token of a row, which depends on nothing
    but the text itself. The blocks of `MatMulNBits` suit few rows; of a prompt there are many.

    Weights have 8 bits here, as unsigned numbers: of those every processor's sums are exact, and with many rows that is hardly
    slower than 7 bits.
    """

    def __init__(self, evening: Mapping[str, np.ndarray]) -> None:
        """
        Args:
            evening: what each tensor that is multiplied is divided by, (features), and the weights multiplied with: a row
                has one scale for all of its features.
        """
        self._evening = evening
        self._choices: dict[str, NodeProto] = {}
        self._tensors: dict[str, TensorProto] = {}

    def choice(self, node: NodeProto, weights: np.ndarray, product: NodeProto) -> NodeProto | None:
        """What takes the place of a product: one of two ways, as the graph finds out while it runs.

        Args:
            node: `Gemm`, with the product's names.
            weights: (outputs, inputs).
            product: in blocks.

        Returns:
            None: products of the same rows share one choice, which stands there already.
        """
        x, (y,) = node.input[0], node.output
        choice = self._choices.get(x)
        is_new = choice is None
        if choice is None:
            choice = self._choices[x] = self._new_choice(x)
        self._keep(_in_whole_numbers(weights * self._evening[x], y))
        choice.output.append(y)
        for attribute in choice.attribute:
            named = f"{y}_{attribute.name}"  # within a graph no name may be one of those around it
            attribute.g.output.append(helper.make_tensor_value_info(named, TensorProto.FLOAT, None))
            way = NodeProto()
            way.CopyFrom(product if attribute.name == "else_branch" else node)
            way.output[0] = named
            if attribute.name == "else_branch":
                attribute.g.node.append(way)
            else:
                way.input[0], way.input[1] = f"{x}_even", y
                attribute.g.node.extend(whole_product(way))
        return choice if is_new else None

    def _new_choice(self, x: str) -> NodeProto:
        self._keep([numpy_helper.from_array((1 / self._evening[x]).astype(np.float32), f"{x}_evening")])
        even = helper.make_node("Mul", [x, f"{x}_evening"], [f"{x}_even"])
        reading = helper.make_graph([even, *rounding_of_rows(f"{x}_even")], f"{x}_reading", [], [])
        writing = helper.make_graph([], f"{x}_writing", [], [])
        return helper.make_node("If", [IS_READING], [], f"{x}_products", then_branch=reading, else_branch=writing)

    def _keep(self, tensors: Iterable[TensorProto]) -> None:
        self._tensors.update((tensor.name, tensor) for tensor in tensors)

    def tensors(self) -> Iterator[TensorProto]:
        """What the choices read beside what the products in blocks do."""
        if self._choices:
            yield from self._tensors.values()
            yield from rounding_constants()
            yield numpy_helper.from_array(np.array(1, np.int64), "one_token")

    def question(self) -> Iterator[NodeProto]:
        """What stands before all choices."""
        if self._choices:
            yield helper.make_node("Shape", ["input_ids"], ["num_tokens_read"], start=1, end=2)
            yield helper.make_node("Greater", ["num_tokens_read", "one_token"], [IS_READING])


def _in_whole_numbers(weights: np.ndarray, name: str) -> Iterator[TensorProto]:
    """uint8, (inputs, outputs), around 128, and what they and their zeros stand for, (outputs)."""
    largest = np.abs(weights).max(axis=1)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(MAX_INT8)
    whole: np.ndarray = np.rint(weights / scales[:, None]) + ZERO_POINT
    yield numpy_helper.from_array(np.ascontiguousarray(whole.T.astype(np.uint8)), f"{name}_whole")
    yield numpy_helper.from_array(scales, f"{name}_steps")
    yield numpy_helper.from_array(np.full(len(scales), ZERO_POINT, np.uint8), f"{name}_zeros")


def may_read(graph: GraphProto) -> bool:
    """Whether a step may read several tokens of a row: behind an encoder it reads one."""
    shapes = {entry.name: entry.type.tensor_type.shape.dim for entry in graph.input}
    return "input_ids" in shapes and bool(shapes["input_ids"][1].dim_param)


def names_read(node: NodeProto) -> set[str]:
    """Tensors that a node reads, in the graphs within it, too."""
    inner = (other for attribute in node.attribute for other in attribute.g.node)
    return set(node.input).union(*map(names_read, inner))


def evening_of(source: Path, products: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What features are divided by, so that those of a row and the weights that they meet share what is uneven: the root of the
    largest number of each feature over the largest weight that it meets (SmoothQuant, https://arxiv.org/abs/2211.10438, 0.5).

    Args:
        source: the step's graph.
        products: what each multiplies, and its weights, (outputs, inputs).
    """
    of_weights: dict[str, np.ndarray] = {}
    for x, weights in products:
        largest = np.abs(weights).max(axis=0)
        of_weights[x] = np.maximum(largest, of_weights.get(x, largest))
    seen = largest_features(source, list(of_weights))
    return {x: np.sqrt(_not_small(seen[x]) / _not_small(met)) for x, met in of_weights.items()}


def _not_small(largest: np.ndarray) -> np.ndarray:
    bounded: np.ndarray = np.maximum(largest, MIN_FEATURE * np.median(largest)).astype(np.float32)
    return np.where(bounded > 0, bounded, np.float32(1))


def largest_features(source: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The largest number of each feature of these tensors, (features), while a step reads tokens that are drawn. How uneven
    features are is a matter of the weights: real texts show much the same."""
    model = onnx.load(source, load_external_data=False)
    del model.graph.output[1:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    file = source.with_name(f"{source.stem}.features.onnx")
    try:
        onnx.save(model, file)  # beside its weights, where they lie in a file of their own
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    finally:
        file.unlink(missing_ok=True)
    largest: dict[str, np.ndarray] = {}
    for given in _drawn_texts(model):
        for name, tensor in zip(names, session.run(list(names), given), strict=True):
            of_text = np.abs(tensor).max(axis=0)
            largest[name] = np.maximum(of_text, largest.get(name, of_text))
    return largest


def _drawn_texts(model: ModelProto) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of a step that reads a text, whose cache is empty."""
    rng = np.random.default_rng(0)
    vocabulary = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    sizes = {"B": 1, "C": DRAWN_TOKENS}
    cache = {
        entry.name: np.zeros([sizes.get(dim.dim_param, dim.dim_value) for dim in entry.type.tensor_type.shape.dim], np.float32)
        for entry in model.graph.input
        if entry.name.startswith("past_") and entry.name != "past_lengths"
    }
    for _ in range(NUM_DRAWN):
        token_ids = rng.integers(0, vocabulary, (1, DRAWN_TOKENS))
        lengths = {"past_lengths": np.zeros(1, np.int32), "total_length": np.array(DRAWN_TOKENS, np.int32)}
        yield {"input_ids": token_ids, **lengths, **cache}
