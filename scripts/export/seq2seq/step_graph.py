"""The graph of one step of a decoder, built from its weights: self-attention over a cache that is written in place,
cross-attention over keys and values that the encoder made. `app.core.manifest.Decoder` says what it takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Weights = NDArray[np.float32]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]

OPSET = 20
"""The first with Gelu as one operator."""
IR_VERSION = 10
CONTRIB = "com.microsoft"


@dataclass(frozen=True, eq=False)
class Linear:
    """A matrix, (outputs, inputs), and what is added to its product, (outputs,)."""

    weight: Weights
    bias: Weights | None = None


@dataclass(frozen=True, eq=False)
class Norm:
    """LayerNorm; without a bias RMSNorm, which subtracts no mean."""

    weight: Weights
    bias: Weights | None
    epsilon: float


@dataclass(frozen=True, eq=False)
class FeedForward:
    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None
    """Its activated product is multiplied with that of `up`, which is not activated then."""


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """The three blocks of a layer, each with its norm."""

    self_qkv: Linear
    """Query, key and value, one below the other: (3 x heads x head size, hidden)."""
    self_out: Linear
    self_norm: Norm
    cross_query: Linear
    cross_out: Linear
    cross_norm: Norm
    feed_forward: FeedForward
    feed_forward_norm: Norm
    distance_bias: Weights | None = None
    """Added to attention scores by how far back a token lies, (distances, heads); farther ones have the last row."""


@dataclass(frozen=True, eq=False)
class DecoderWeights:
    """A decoder as this graph computes it, whatever the names of its weights were."""

    num_heads: int
    head_size: int
    embedding: Weights
    """(tokens, hidden)"""
    layers: Sequence[DecoderLayer]
    head: Linear
    """(vocabulary, hidden); where its weight is the embedding itself, the graph holds it once."""
    is_pre_norm: bool
    """Whether a block normalizes what it reads, and not what it gives."""
    embedding_scale: float = 1.0
    positions: Weights | None = None
    """Vector of each position from 0 on, (positions, hidden); learned or computed makes no difference here."""
    embedding_norm: Norm | None = None
    final_norm: Norm | None = None
    attention_scale: float | None = None
    """None: 1 / sqrt(head size)."""
    head_scale: float = 1.0
    """What the hidden vector is multiplied with before the head."""
    head_transform: tuple[Linear, Activation, Norm] | None = None
    """What stands before the head, as in BERT."""


def build_step_graph(decoder: DecoderWeights) -> ModelProto:
    """The graph, in fp32."""
    return _Builder(decoder).build()


@dataclass
class _Builder:
    decoder: DecoderWeights
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)
    shared: dict[int, str] = field(default_factory=dict)
    """Array to the initializer that holds it."""
    nothing: str = ""
    """(B, 0, heads x head size): the new keys and values of attention that adds none."""

    def build(self) -> ModelProto:
        decoder = self.decoder
        ids = self.input("input_ids", TensorProto.INT64, ["B", 1])
        past = self.input("past_lengths", TensorProto.INT32, ["B"])
        total = self.input("total_length", TensorProto.INT32, [])
        source = self.input("source_lengths", TensorProto.INT32, ["B"])
        last = self.node("Sub", [source, self.constant("one", np.int32(1))], "source_last")
        longest = self.node("ReduceMax", [source], "source_total", keepdims=0)
        hidden = self.embedded(ids, past)
        biases: dict[int, str] = {}
        for number, layer in enumerate(decoder.layers):
            name = f"layers.{number}"
            bias = layer.distance_bias
            if bias is not None and id(bias) not in biases:
                biases[id(bias)] = self.distance_bias(bias, past, total, f"{name}.distance_bias")
            attention_bias = "" if bias is None else biases[id(bias)]
            hidden = self.self_attention(hidden, layer, number, past, total, attention_bias)
            hidden = self.cross_attention(hidden, layer, number, last, longest)
            hidden = self.feed_forward(hidden, layer, f"{name}.feed_forward")
        self.logits(hidden)
        graph = helper.make_graph(self.nodes, "step", self.inputs, self.outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    # parts of the decoder: names of tensors in, the name of a tensor out; `hidden` is (B, hidden size)

    def embedded(self, ids: str, past: str) -> str:
        decoder = self.decoder
        # from `input_ids` themselves, so that the table can be stored small as any encoder's is
        lines = self.node("Gather", [self.weights("embedding", decoder.embedding), ids], "embedded_lines")
        hidden = self.node("Squeeze", [lines, self.constant("axis_1", [1])], "embedded")
        hidden = self.scaled(hidden, decoder.embedding_scale, "embedded_scaled")
        if decoder.positions is not None:
            position = self.node("Gather", [self.weights("positions", decoder.positions), past], "position")
            hidden = self.node("Add", [hidden, position], "embedded_positioned")
        if decoder.embedding_norm is not None:
            hidden = self.norm(hidden, decoder.embedding_norm, "embedding_norm")
        return hidden

    def self_attention(self, hidden: str, layer: DecoderLayer, number: int, past: str, total: str, bias: str) -> str:
        name = f"layers.{number}.self"
        read = self.before(hidden, layer.self_norm, f"{name}.norm")
        qkv = self.lines(self.linear(read, layer.self_qkv, f"{name}.qkv"))
        cache = [self.cache(f"past_{kind}.{number}", "C") for kind in ("key", "value")]
        given = [qkv, "", "", *cache, past, total, *(["", "", "", bias] if bias else [])]
        attended = self.attention(given, f"{name}.attended", [f"new_{entry}" for entry in cache])
        for entry in cache:
            self.outputs.append(self.cache_info(f"new_{entry}", "C"))
        return self.after(hidden, self.linear(attended, layer.self_out, f"{name}.out"), layer.self_norm, f"{name}.norm")

    def cross_attention(self, hidden: str, layer: DecoderLayer, number: int, last: str, longest: str) -> str:
        name = f"layers.{number}.cross"
        read = self.before(hidden, layer.cross_norm, f"{name}.norm")
        query = self.lines(self.linear(read, layer.cross_query, f"{name}.query"))
        if not self.nothing:  # ONNX Runtime attends to the cache alone where no new keys come
            zero = self.constant("zero", [0])
            self.nothing = self.node("Slice", [query, zero, zero, self.constant("axis_1", [1])], "nothing")
        cache = [self.cache(f"cross_{kind}.{number}", "S") for kind in ("key", "value")]
        attended = self.attention([query, self.nothing, self.nothing, *cache, last, longest], f"{name}.attended", [])
        return self.after(hidden, self.linear(attended, layer.cross_out, f"{name}.out"), layer.cross_norm, f"{name}.norm")

    def feed_forward(self, hidden: str, layer: DecoderLayer, name: str) -> str:
        part = layer.feed_forward
        read = self.before(hidden, layer.feed_forward_norm, f"{name}.norm")
        inner = self.linear(read, part.up, f"{name}.up")
        if part.gate is None:
            inner = self.activated(inner, part.activation, f"{name}.activated")
        else:
            gate = self.activated(self.linear(read, part.gate, f"{name}.gate"), part.activation, f"{name}.activated")
            inner = self.node("Mul", [gate, inner], f"{name}.gated")
        return self.after(hidden, self.linear(inner, part.down, f"{name}.down"), layer.feed_forward_norm, f"{name}.norm")

    def logits(self, hidden: str) -> None:
        decoder = self.decoder
        if decoder.final_norm is not None:
            hidden = self.norm(hidden, decoder.final_norm, "final_norm")
        if decoder.head_transform is not None:
            linear, activation, norm = decoder.head_transform
            hidden = self.activated(self.linear(hidden, linear, "head_transform"), activation, "head_activated")
            hidden = self.norm(hidden, norm, "head_norm")
        hidden = self.scaled(hidden, decoder.head_scale, "head_scaled")
        self.linear(hidden, decoder.head, "head", "logits")
        size = decoder.head.weight.shape[0]
        self.outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", size]))

    def distance_bias(self, table: Weights, past: str, total: str, name: str) -> str:
        """(B, heads, 1, T): of each token of the cache, by how far it lies before the one that is read."""
        zero, one = self.constant("zero_32", np.int32(0)), self.constant("one", np.int32(1))
        tokens = self.node("Range", [zero, total, one], f"{name}.tokens")
        column = self.node("Unsqueeze", [past, self.constant("axis_1", [1])], f"{name}.past")
        distance = self.node("Sub", [column, tokens], f"{name}.distance")  # (B, T)
        farthest = self.constant(f"{name}.farthest", np.int32(len(table) - 1))
        known = self.node("Clip", [distance, zero, farthest], f"{name}.known")  # tokens after it are not attended to
        rows = self.node("Gather", [self.weights(f"{name}.table", table), known], f"{name}.rows")  # (B, T, heads)
        heads = self.node("Transpose", [rows], f"{name}.heads", perm=[0, 2, 1])
        return self.node("Unsqueeze", [heads, self.constant("axis_2", [2])], name)

    # pieces

    def before(self, hidden: str, norm: Norm, name: str) -> str:
        return self.norm(hidden, norm, name) if self.decoder.is_pre_norm else hidden

    def after(self, hidden: str, result: str, norm: Norm, name: str) -> str:
        added = self.node("Add", [hidden, result], f"{name}.added")
        return added if self.decoder.is_pre_norm else self.norm(added, norm, name)

    def attention(self, given: Sequence[str], name: str, written: Sequence[str]) -> str:
        decoder = self.decoder
        attributes: dict[str, Any] = {"num_heads": decoder.num_heads, "kv_num_heads": decoder.num_heads}
        if decoder.attention_scale is not None:
            attributes["scale"] = decoder.attention_scale
        line = f"{name}.line"
        outputs = [line, *written]
        node = helper.make_node("GroupQueryAttention", given, outputs, line, domain=CONTRIB, **attributes)
        self.nodes.append(node)
        return self.node("Squeeze", [line, self.constant("axis_1", [1])], name)

    def lines(self, tensor: str) -> str:
        """(B, features) as (B, 1, features)."""
        return self.node("Unsqueeze", [tensor, self.constant("axis_1", [1])], f"{tensor}.lines")

    def linear(self, tensor: str, linear: Linear, name: str, output: str = "") -> str:
        bias = [] if linear.bias is None else [self.weights(f"{name}.bias", linear.bias)]
        given = [tensor, self.weights(f"{name}.weight", linear.weight), *bias]
        return self.node("Gemm", given, output or name, transB=1)

    def norm(self, tensor: str, norm: Norm, name: str) -> str:
        weight = self.weights(f"{name}.weight", norm.weight)
        if norm.bias is not None:
            bias = self.weights(f"{name}.bias", norm.bias)
            return self.node("LayerNormalization", [tensor, weight, bias], name, axis=-1, epsilon=norm.epsilon)
        # as transformers' T5 writes it down, which ONNX Runtime makes one operator of
        square = self.node("Pow", [tensor, self.constant("two", np.float32(2))], f"{name}.square")
        mean = self.node("ReduceMean", [square, self.constant("last_axis", [-1])], f"{name}.mean", keepdims=1)
        epsilon = self.constant(f"{name}.epsilon", np.float32(norm.epsilon))
        root = self.node("Sqrt", [self.node("Add", [mean, epsilon], f"{name}.above_zero")], f"{name}.root")
        return self.node("Mul", [self.node("Div", [tensor, root], f"{name}.even"), weight], name)

    def activated(self, tensor: str, activation: Activation, name: str) -> str:
        if activation == "relu":
            return self.node("Relu", [tensor], name)
        if activation == "silu":
            return self.node("Mul", [tensor, self.node("Sigmoid", [tensor], f"{name}.sigmoid")], name)
        return self.node("Gelu", [tensor], name, approximate="tanh" if activation == "gelu_tanh" else "none")

    def scaled(self, tensor: str, factor: float, name: str) -> str:
        return tensor if factor == 1.0 else self.node("Mul", [tensor, self.constant(f"{name}.by", np.float32(factor))], name)

    # the graph

    def node(self, kind: str, given: Sequence[str], name: str, **attributes: Any) -> str:
        """Its one output is called like the node itself."""
        self.nodes.append(helper.make_node(kind, given, [name], name, **attributes))
        return name

    def constant(self, name: str, value: object) -> str:
        array = value if isinstance(value, np.generic) else np.asarray(value, np.int64)
        self.initializers[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def weights(self, name: str, array: Weights) -> str:
        if id(array) not in self.shared:
            self.shared[id(array)] = name
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        return self.shared[id(array)]

    def input(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def cache(self, name: str, capacity: str) -> str:
        self.inputs.append(self.cache_info(name, capacity))
        return name

    def cache_info(self, name: str, capacity: str) -> ValueInfoProto:
        shape: list[str | int | None] = ["B", self.decoder.num_heads, capacity, self.decoder.head_size]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
