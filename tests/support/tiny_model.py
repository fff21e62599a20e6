"""A tiny real model: ten words, two ONNX graphs of a few kilobytes, and a published folder made of them.

A row's logits are the mean of its tokens' weights, each scaled by its position. Every token counts, order counts, and
padding weighs so much that one padding token, or one token of a neighbour, read by mistake changes the answer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, load, numpy_helper, save
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from app.core.manifest import MANIFEST, Graph, Manifest, Output, Parity, describe_file
from app.core.types import LayoutName, Row, RowOutput, TaskName
from app.runtime.layout import plan, split, to_tensors
from app.tasks.base import Encoded
from app.tasks.drift import reference_of, summed
from app.tasks.extractive_summarization.task import ExtractiveSummarization, SummaryItem, SummaryOptions
from app.tasks.question_answering.task import AnswerOptions, QuestionAnswering, QuestionItem
from app.tasks.schemas import items_field_of
from app.tasks.spec import TaskSpec
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.text_regression import TextRegression
from app.tasks.tokenizer import Tokenizer
from tests.support.tiny_continuer import publish_tiny_continuer
from tests.support.tiny_decoder import publish_tiny_decoder

Axis = Literal["row", "token", "position"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("a", "the", "film", "##s", "was", "not", "very", "good", "bad", ".")
VOCABULARY = {token: index for index, token in enumerate((*SPECIAL, *WORDS))}
MASK = "[MASK]"
"""The token behind them all, which only the tokenizers of some tasks have."""
TEXT_FORMS: dict[TaskName, str] = {"fill-mask": f"{MASK} {{}} {MASK}"}
"""How a text must be written that a task can answer; any text where it stands not here."""
MAX_TOKENS = 32
NUM_POSITIONS = 640
PACKED_INPUTS = ("input_ids", "token_type_ids", "position_ids", "segment_ids", "gather")
PADDED_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GOLDEN_TEXTS = ("The film was good.", "A bad film.", "Not good, not bad.", "very very good films", "bad")


def text_for(spec: TaskSpec, text: str) -> str:
    """The text as the task can answer it; a blank one stays as it is."""
    return TEXT_FORMS.get(spec.name, "{}").format(text) if text.strip() else text


def tokenizer_json(has_mask: bool = False) -> str:
    """The text of a tokenizer.json: lower-casing WordPiece over ten words, BERT's templates for texts and pairs."""
    masks = {MASK: len(VOCABULARY)} if has_mask else {}
    tokenizer = _Tokenizer(models.WordPiece({**VOCABULARY, **masks}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])],
    )
    tokenizer.add_special_tokens([*SPECIAL, *masks])  # as in BERT's: they are recognized in a text, too
    return str(tokenizer.to_str())


def tiny_tokenizer(max_tokens: int = MAX_TOKENS, has_mask: bool = False) -> Tokenizer:
    return Tokenizer(tokenizer_json(has_mask), max_tokens)


def row(*token_ids: int, output_positions: Sequence[int] = (0,)) -> Row:
    """A row of these tokens, all of the first sequence."""
    return Row(token_ids, [0] * len(token_ids), output_positions)


def packed_graph(path: Path, num_labels: int = 2, axis: Axis = "row") -> Graph:
    """Write a graph that obeys the packed contract of `app.runtime.layout`.

    Inputs: input_ids, token_type_ids, position_ids, segment_ids: (height, width) int64; gather: (rows or positions,) int64,
    not for the axis `token`. Output: logits float32, (rows or positions, num_labels), or (height, width, num_labels). To the
    mean of a row are added, for the axis `token`, the token's own weights, and for `position` those of the word after it.
    """
    nodes = [
        *_token_weights("position_ids"),
        helper.make_node("Unsqueeze", ["segment_ids", "axis_1"], ["segment_column"]),
        helper.make_node("Unsqueeze", ["segment_ids", "axis_2"], ["segment_line"]),
        helper.make_node("Equal", ["segment_column", "segment_line"], ["same_segment"]),
        helper.make_node("Cast", ["same_segment"], ["mask"], to=TensorProto.FLOAT),  # (height, width, width)
        helper.make_node("MatMul", ["mask", "weights"], ["sums"]),
        helper.make_node("ReduceSum", ["mask", "axis_2"], ["counts"], keepdims=1),
        helper.make_node("Div", ["sums", "counts"], ["means"]),
        helper.make_node("Add", ["means", "weights"], ["logits" if axis == "token" else "own"]),
        helper.make_node("Slice", ["weights", "axis_1", "far", "axis_1"], ["following"]),
        helper.make_node("Pad", ["following", "one_column"], ["next_weights"]),
        helper.make_node("Add", ["means", "next_weights"], ["marked"]),
    ]
    matrices = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in PACKED_INPUTS[:-1]]
    constants = {"axis_1": [1], "axis_2": [2], "flat_shape": [-1, num_labels], "far": [9999], "one_column": [0, 0, 0, 0, 1, 0]}
    if axis == "token":
        del constants["flat_shape"]
        _save(path, nodes, matrices, num_labels, constants, "B", "S")
        return _graph(path, "packed", PACKED_INPUTS[:-1], axis)
    nodes += [
        helper.make_node(
            "Reshape", ["means" if axis == "row" else "marked", "flat_shape"], ["flat"]
        ),  # (height * width, labels)
        helper.make_node("Gather", ["flat", "gather"], ["logits"], axis=0),
    ]
    inputs = [*matrices, helper.make_tensor_value_info("gather", TensorProto.INT64, ["R"])]
    _save(path, nodes, inputs, num_labels, constants, "R")
    return _graph(path, "packed", PACKED_INPUTS, axis)


def padded_graph(path: Path, num_labels: int = 2) -> Graph:
    """Write the same model in the padded layout.

    Inputs: input_ids, attention_mask, token_type_ids: (rows, width) int64. Output: logits (rows, num_labels) float32.
    """
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "one"], ["ordinals"]),
        helper.make_node("Mul", ["ordinals", "attention_mask"], ["from_one"]),
        helper.make_node("Sub", ["from_one", "attention_mask"], ["position_ids"]),
        *_token_weights("position_ids"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis_1"], ["mask_line"]),  # (rows, 1, width)
        helper.make_node("MatMul", ["mask_line", "weights"], ["sums_line"]),
        helper.make_node("Squeeze", ["sums_line", "axis_1"], ["sums"]),
        helper.make_node("ReduceSum", ["mask", "axis_1"], ["counts"], keepdims=1),
        helper.make_node("Div", ["sums", "counts"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in PADDED_INPUTS]
    _save(path, nodes, inputs, num_labels, {"one": 1, "axis_1": [1]}, "B")
    return _graph(path, "padded", PADDED_INPUTS, "row")


def logits_of(row: Row, num_labels: int = 2) -> np.ndarray:
    """What both graphs must answer for a row wherever it lies, computed in numpy: (labels,)."""
    tables = _tables(num_labels)
    words = tables["word_table"][list(row.input_ids)] + tables["type_table"][list(row.token_type_ids)]
    mean: np.ndarray = (words * tables["position_table"][: row.num_tokens]).mean(axis=0)
    return mean


def run_rows(path: Path, graph: Graph, rows: Sequence[Row], fixed_shapes: bool = False) -> list[RowOutput]:
    """Rows through the layout and the ONNX file on the CPU, all in one batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    where = plan([row.num_tokens for row in rows], graph.layout, fixed_shapes)
    tensors = to_tensors(rows, where, graph, fixed_shapes)
    return split(session.run([output.name for output in graph.outputs], dict(tensors)), rows, where, graph)


@dataclass(frozen=True)
class Kind:
    """What a tiny model of one task is made of."""

    axis: Axis
    num_labels: int
    task: Any
    options: Any
    items: Sequence[Any]
    headline: dict[str, Any]


REGRESSION = Kind(
    "row", 1, TextRegression, ClassificationOptions(), [ClassificationItem(text) for text in GOLDEN_TEXTS],
    {"rmse": 0.0, "rows": len(GOLDEN_TEXTS)},
)  # fmt: skip
KINDS: dict[TaskName, Kind] = {
    "text-classification": Kind(
        "row", 2, TextClassification, ClassificationOptions(), [ClassificationItem(text) for text in GOLDEN_TEXTS],
        {"accuracy": 1.0, "macro_f1": 1.0, "rows": len(GOLDEN_TEXTS)},
    ),
    "question-answering": Kind(
        "token", 2, QuestionAnswering, AnswerOptions(), [QuestionItem("Was the film good?", text) for text in GOLDEN_TEXTS],
        {"exact_match": 100.0, "f1": 100.0, "rows": len(GOLDEN_TEXTS)},
    ),
    "summarization": Kind(
        "token", 1, ExtractiveSummarization, SummaryOptions(), [SummaryItem(" ".join(GOLDEN_TEXTS))],
        {"rouge1": 40.0, "rows": 1},
    ),
}  # fmt: skip


def kind_of(spec: TaskSpec) -> tuple[Kind, dict[str, Any]]:
    """What a tiny model of any task is made of, and its task options: the task says which output it reads, and its signature
    whether it wants labels or the size of a vector. Every text of an item is a golden text."""
    num_labels = spec.output.num_features or 2
    parameters = inspect.signature(spec.task).parameters
    texts = [text_for(spec, text) for text in GOLDEN_TEXTS]
    items = [spec.item(**{name: text for name, field in spec.fields.items() if field.required}) for text in texts]
    kind = Kind(spec.output.axis, num_labels, spec.task, spec.options(), items, {"rows": len(items)})
    labels = {"labels": ["bad", "good", "other"][:num_labels]} if "labels" in parameters else {}
    return kind, {**labels, **({"dimensions": num_labels} if "dimensions" in parameters else {})}


def body_of(spec: TaskSpec, texts: Sequence[str], **options: Any) -> dict[str, Any]:
    """A request of a task's own route for items whose fields all are this text; a field that stands beside them is the first
    text."""
    texts = [text_for(spec, text) for text in texts]
    required = [name for name, field in spec.fields.items() if field.required]
    request = spec.route.request
    beside = {name: texts[0] for name in required if spec.route.is_whole and name in request.model_fields}
    inner = [name for name in required if name not in beside]
    items = [text if spec.route.is_whole or inner == ["text"] else dict.fromkeys(inner, text) for text in texts]
    return {items_field_of(request): items, **beside, **options}


def publish_tiny_spec(models_dir: Path, spec: TaskSpec) -> Path:
    """Write `models_dir/TASK/1`, a packed model of any task, a package's own too.

    Returns:
        The folder.
    """
    if spec.is_generative and spec.output.name != "cross":  # without an encoder
        return publish_tiny_continuer(models_dir, spec.name, task=spec.name)
    if spec.is_generative:
        return publish_tiny_decoder(models_dir, spec.name, task=spec.name)
    folder = models_dir / spec.name / "1"
    folder.mkdir(parents=True)
    kind, task_options = kind_of(spec)
    graph = packed_graph(folder / "model.onnx", kind.num_labels, kind.axis)
    if spec.name == "feature-extraction":
        graph = _with_token_vectors(folder / "model.onnx", graph)
        task_options = {**task_options, "token_dimensions": kind.num_labels}
    return _publish(folder, spec.name, graph, task_options, MAX_TOKENS, kind, MASK in text_for(spec, "a"))


def _with_token_vectors(file: Path, graph: Graph) -> Graph:
    """The graph with an optional output beside its logits: for each token the sum of its word and its type."""
    model = load(file)
    model.graph.node.append(helper.make_node("Identity", ["typed"], ["token_embeddings"]))
    model.graph.output.append(helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["B", "S", "D"]))
    save(model, file)
    extra = Output(name="token_embeddings", axis="token", is_optional=True)
    return graph.model_copy(update={"outputs": (*graph.outputs, extra)})


def publish_tiny(
    models_dir: Path,
    name: str = "tiny",
    version: int = 1,
    labels: Sequence[str] = ("bad", "good"),
    *,
    layout: LayoutName = "packed",
    max_tokens: int = MAX_TOKENS,
    problem_type: str = "single_label_classification",
    **task_options: Any,
) -> Path:
    """Write a complete model folder, `models_dir/name/version`: "bad" pushes the first label, "good" the last.

    Returns:
        The folder.
    """
    folder = models_dir / name / str(version)
    folder.mkdir(parents=True)
    make = packed_graph if layout == "packed" else padded_graph
    graph = make(folder / "model.onnx", len(labels))
    if problem_type == "regression":
        return _publish(folder, "text-regression", graph, {"labels": list(labels), **task_options}, max_tokens)
    task_options = {"labels": list(labels), "problem_type": problem_type, **task_options}
    return _publish(folder, "text-classification", graph, task_options, max_tokens)


def publish_tiny_task(models_dir: Path, task: TaskName, name: str, *, max_tokens: int = MAX_TOKENS) -> Path:
    """Write `models_dir/name/1`, a packed model of any task. Its spans begin at "bad" and end at "good"; its best sentences
    hold "good".

    Returns:
        The folder.
    """
    if task == "text-classification":
        return publish_tiny(models_dir, name, max_tokens=max_tokens)
    folder = models_dir / name / "1"
    folder.mkdir(parents=True)
    graph = packed_graph(folder / "model.onnx", KINDS[task].num_labels, KINDS[task].axis)
    return _publish(folder, task, graph, {}, max_tokens)


def _publish(
    folder: Path,
    task: TaskName,
    graph: Graph,
    task_options: dict[str, Any],
    max_tokens: int,
    kind: Kind | None = None,
    has_mask: bool = False,
) -> Path:
    kind = kind or (REGRESSION if task == "text-regression" else KINDS[task])
    (folder / "tokenizer.json").write_text(tokenizer_json(has_mask), encoding="utf-8")
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json", max_tokens)
    serving, options = kind.task(tokenizer, **task_options), type(kind.options)()  # the service replays with the defaults
    answered = list(_answered(folder / "model.onnx", graph, serving, kind.items, options))
    golden = zip(kind.items, answered, strict=True)
    _write_json(folder / "golden.json", [{"item": _fields(item), "answer": asdict(answer)} for item, (_, answer) in golden])
    _write_json(folder / "evaluation.json", {"headline": kind.headline})
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir())}
    manifest = Manifest(
        name=folder.parent.name,
        version=int(folder.name),
        task=task,
        description="Ten words, for tests.",
        created="2026-01-01T00:00:00Z",
        license="Apache-2.0",
        base_model="none",
        max_tokens=max_tokens,
        graph=graph,
        task_options=task_options,
        parity={"fp32": Parity(rows=len(GOLDEN_TEXTS), agreement=1.0, max_abs_error=0.0, passed=True)},
        reference=reference_of(summed(serving, tokenizer.unknown_id(), answered, options)),
        evaluation=kind.headline,
        files=files,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


def _token_weights(position_ids: str) -> list[Any]:
    """Nodes from ids to `weights` (height, width, labels): (word + type) * position."""
    return [
        helper.make_node("Gather", ["word_table", "input_ids"], ["words"], axis=0),
        helper.make_node("Gather", ["type_table", "token_type_ids"], ["types"], axis=0),
        helper.make_node("Add", ["words", "types"], ["typed"]),
        helper.make_node("Gather", ["position_table", position_ids], ["positions"], axis=0),
        helper.make_node("Mul", ["typed", "positions"], ["weights"]),
    ]


def _tables(num_labels: int) -> dict[str, np.ndarray]:
    """Weights without a random generator, so that they are the same for ever: word, type and position tables."""
    num_words = len(VOCABULARY) + 1  # the mask, too
    words = 0.3 * np.sin(1.0 + np.arange(num_words * num_labels, dtype=np.float32)).reshape(-1, num_labels)
    words[VOCABULARY["[PAD]"]] = 40.0 * (1 + np.arange(num_labels))
    words[VOCABULARY["bad"], 0] += 9.0 if num_labels > 1 else -9.0
    words[VOCABULARY["good"], -1] += 9.0
    types = 0.1 * np.cos(np.arange(2 * num_labels, dtype=np.float32)).reshape(-1, num_labels)
    positions = (1.0 + 1.0 / (3.0 + np.arange(NUM_POSITIONS, dtype=np.float32))).reshape(-1, 1)
    tables = {"word_table": words, "type_table": types, "position_table": positions}
    return {name: table.astype(np.float32) for name, table in tables.items()}


def _save(path: Path, nodes: list[Any], inputs: list[Any], num_labels: int, constants: dict[str, Any], *axes: str) -> None:
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*axes, num_labels])
    values = {**_tables(num_labels), **{name: np.array(value, np.int64) for name, value in constants.items()}}
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], initializers)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _graph(path: Path, layout: LayoutName, inputs: tuple[str, ...], axis: Axis) -> Graph:
    outputs = (Output(name="logits", axis=axis),)
    return Graph(file=path.name, layout=layout, inputs=inputs, outputs=outputs, pad_token_id=0, storage="fp32")


def _answered(path: Path, graph: Graph, task: Any, items: Sequence[Any], options: Any) -> Iterator[tuple[Encoded, Any]]:
    for encoded in task.encode(items, options):
        if isinstance(encoded, Exception):
            raise encoded
        yield encoded, task.decode(encoded, run_rows(path, graph, encoded.rows), options)


def _fields(item: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if value is not None}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
