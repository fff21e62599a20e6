"""The graph of one step of a decoder, built from its weights: self-attention over a cache that is written in place, and behind
an encoder cross-attention over the keys and values that it made. `app.core.manifest.Decoder` says what it takes and gives."""

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
class CrossAttention:
    """Over what an encoder read."""

    query: Linear
    out: Linear
    norm: Norm


@dataclass(frozen=True, eq=False)
class Rotation:
    """By which angle each position turns queries and keys, whose first half of dimensions is paired with the second: cosines
    and sines, (positions, turned dimensions / 2)."""

    cos: Weights
    sin: Weights


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """The blocks of a layer, each with its norm."""

    self_qkv: Linear
    """Query, key and value, one below the other: (heads and twice those of keys x head size, hidden)."""
    self_out: Linear
    self_norm: Norm
    feed_forward: FeedForward
    feed_forward_norm: Norm | None
    """None: it reads what the attention reads, and both are added at once."""
    cross: CrossAttention | None = None
    """None: there is no encoder."""
    distance_bias: Weights | None = None
    """Added to attention scores by how far back a token lies, (distances, heads); farther ones have the last row."""
    rotation: Rotation | None = None
    head_norms: tuple[Norm, Norm] | None = None
    """Of each head's query and key, before they are turned."""
    window: int = 0
    """Tokens that are attended to, the one that is read included; 0: all."""
    result_norms: tuple[Norm, Norm] | None = None
    """Of what attention and feed-forward give, before it is added, where they have norms for what they read as well."""


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
    """Whether a block normalizes what it reads, and not the sum that it gives."""
    num_kv_heads: int = 0
    """Of keys and values, where each serves several of queries; 0: as many as of queries."""
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
    attention_cap: float = 0.0
    """Attention scores end here, softly (`cap * tanh(score / cap)`); 0: nowhere."""
    logit_cap: float = 0.0

    @property
    def num_cached_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def has_encoder(self) -> bool:
        return self.layers[0].cross is not None


def build_step_graph(decoder: DecoderWeights) -> ModelProto:
    """The graph, in fp32."""
    return _Builder(decoder).build()


@dataclass(frozen=True, slots=True)
class Places:
    """Tensors that say where in the cache each row reads and writes."""

    past: str
    last: str
    """Position of the last token that is read, (B)."""
    total: str
    source_last: str = ""
    source_total: str = ""


@dataclass
class _Builder:
    decoder: DecoderWeights
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)
    shared: dict[int, str] = field(default_factory=dict)
    """Array to the initializer that holds it."""
    biases: dict[int, str] = field(default_factory=dict)
    """Table of a bias by distance to the tensor that is read of it."""
    places: Places = field(init=False)
    line_shape: str = ""
    """B, T and the rest, where a step may read several tokens; empty: it reads one."""
    nothing: str = ""
    """(B, 0, heads x head size): the new keys and values of attention that adds none."""

    def build(self) -> ModelProto:
        decoder = self.decoder
        ids = self.input("input_ids", TensorProto.INT64, ["B", 1 if decoder.has_encoder else "T"])
        past = self.input("past_lengths", TensorProto.INT32, ["B"])
        total = self.input("total_length", TensorProto.INT32, [])
        if decoder.has_encoder:
            source = self.input("source_lengths", TensorProto.INT32, ["B"])
            source_last = self.node("Sub", [source, self.constant("one", np.int32(1))], "source_last")
            self.places = Places(past, past, total, source_last, self.node("ReduceMax", [source], "source_total", keepdims=0))
            hidden = self.embedded(ids, past)
        else:
            position, last = self.positions_of(ids, past)
            self.places = Places(past, last, total)
            hidden = self.embedded(ids, position)
        for number, layer in enumerate(decoder.layers):
            hidden = self.layer(hidden, layer, number)
        self.logits(hidden)
        graph = helper.make_graph(self.nodes, "step", self.inputs, self.outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    # parts of the decoder: names of tensors in, the name of a tensor out; `hidden` is (B x T, hidden size)

    def positions_of(self, ids: str, past: str) -> tuple[str, str]:
        """Of the tokens that are read: of each, (B x T), and of the last one of every row, (B)."""
        shape = self.node("Shape", [ids], "ids_shape")
        self.line_shape = self.node("Concat", [shape, self.constant("minus_1", [-1])], "line_shape", axis=0)
        num_tokens = self.node("Cast", [self.node("Gather", [shape, self.constant("1", np.int64(1))], "num_tokens_64")],
                               "num_tokens", to=TensorProto.INT32)  # fmt: skip
        zero, one = self.constant("zero_32", np.int32(0)), self.constant("one", np.int32(1))
        last = self.node("Add", [past, self.node("Sub", [num_tokens, one], "num_before_last")], "last")
        column = self.node("Unsqueeze", [past, self.constant("axis_1", [1])], "past_column")
        positions = self.node("Add", [column, self.node("Range", [zero, num_tokens, one], "tokens")], "positions_by_row")
        return self.node("Reshape", [positions, self.constant("minus_1", [-1])], "position_ids"), last

    def embedded(self, ids: str, position_ids: str) -> str:
        decoder = self.decoder
        # from `input_ids` themselves, so that the table can be stored small as any encoder's is
        lines = self.node("Gather", [self.weights("embedding", decoder.embedding), ids], "embedded_lines")
        hidden = self.flat(lines, "embedded", decoder.embedding.shape[1])
        hidden = self.scaled(hidden, decoder.embedding_scale, "embedded_scaled")
        if decoder.positions is not None:
            position = self.node("Gather", [self.weights("positions", decoder.positions), position_ids], "position")
            hidden = self.node("Add", [hidden, position], "embedded_positioned")
        if decoder.embedding_norm is not None:
            hidden = self.norm(hidden, decoder.embedding_norm, "embedding_norm")
        return hidden

    def layer(self, hidden: str, layer: DecoderLayer, number: int) -> str:
        name = f"layers.{number}"
        read = self.before(hidden, layer.self_norm, f"{name}.self.norm")
        attended = self.self_attention(read, layer, number, f"{name}.self")
        if layer.feed_forward_norm is None:
            written = self.feed_forward(read, layer.feed_forward, f"{name}.feed_forward")
            return self.node("Add", [hidden, self.node("Add", [attended, written], f"{name}.both")], f"{name}.added")
        after_attention, after_dense = layer.result_norms or (None, None)
        hidden = self.after(hidden, attended, layer.self_norm, f"{name}.self.norm", after_attention)
        if layer.cross is not None:
            hidden = self.cross_attention(hidden, layer.cross, number, f"{name}.cross")
        read = self.before(hidden, layer.feed_forward_norm, f"{name}.feed_forward.norm")
        written = self.feed_forward(read, layer.feed_forward, f"{name}.feed_forward")
        return self.after(hidden, written, layer.feed_forward_norm, f"{name}.feed_forward.norm", after_dense)

    def self_attention(self, read: str, layer: DecoderLayer, number: int, name: str) -> str:
        cache = [self.cache(f"past_{kind}.{number}", "C") for kind in ("key", "value")]
        turned = ["", ""]
        if layer.rotation is not None:
            turned = [self.weights(f"{name}.cos", layer.rotation.cos), self.weights(f"{name}.sin", layer.rotation.sin)]
        bias = self.distance_bias(layer.distance_bias, f"layers.{number}.distance_bias")
        given = [*self.query_key_value(read, layer, name), *cache, self.places.last, self.places.total, *turned, "", bias]
        attributes = {"do_rotary": 1} if layer.rotation is not None else {}
        attributes |= {"local_window_size": layer.window} if layer.window else {}
        attended = self.attention(given, f"{name}.attended", [f"new_{entry}" for entry in cache], **attributes)
        for entry in cache:
            self.outputs.append(self.cache_info(f"new_{entry}", "C"))
        return self.linear(attended, layer.self_out, f"{name}.out")

    def query_key_value(self, read: str, layer: DecoderLayer, name: str) -> list[str]:
        """(B, T, features) of each; the first one alone where it holds all three."""
        decoder = self.decoder
        qkv = self.linear(read, layer.self_qkv, f"{name}.qkv")
        if layer.head_norms is None:
            return [self.lines(qkv), "", ""]
        size, counts = decoder.head_size, (decoder.num_heads, decoder.num_cached_heads, decoder.num_cached_heads)
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        sizes = self.constant("qkv_sizes", [count * size for count in counts])
        self.nodes.append(helper.make_node("Split", [qkv, sizes], parts, f"{name}.split", axis=1))
        for place, norm in enumerate(layer.head_norms):
            heads = self.node("Reshape", [parts[place], self.constant("by_head", [-1, size])], f"{parts[place]}.heads")
            evened = self.norm(heads, norm, f"{parts[place]}.norm")
            width = self.constant(f"by_row.{counts[place]}", [-1, counts[place] * size])
            parts[place] = self.node("Reshape", [evened, width], f"{parts[place]}.evened")
        return [self.lines(part) for part in parts]

    def cross_attention(self, hidden: str, layer: CrossAttention, number: int, name: str) -> str:
        read = self.before(hidden, layer.norm, f"{name}.norm")
        query = self.lines(self.linear(read, layer.query, f"{name}.query"))
        if not self.nothing:  # ONNX Runtime attends to the cache alone where no new keys come
            zero = self.constant("zero", [0])
            self.nothing = self.node("Slice", [query, zero, zero, self.constant("axis_1", [1])], "nothing")
        cache = [self.cache(f"cross_{kind}.{number}", "S") for kind in ("key", "value")]
        places = [self.places.source_last, self.places.source_total]
        attended = self.attention([query, self.nothing, self.nothing, *cache, *places], f"{name}.attended", [])
        return self.after(hidden, self.linear(attended, layer.out, f"{name}.out"), layer.norm, f"{name}.norm")

    def feed_forward(self, read: str, part: FeedForward, name: str) -> str:
        inner = self.linear(read, part.up, f"{name}.up")
        if part.gate is None:
            inner = self.activated(inner, part.activation, f"{name}.activated")
        else:
            gate = self.activated(self.linear(read, part.gate, f"{name}.gate"), part.activation, f"{name}.activated")
            inner = self.node("Mul", [gate, inner], f"{name}.gated")
        return self.linear(inner, part.down, f"{name}.down")

    def logits(self, hidden: str) -> None:
        """Of the last token of each row."""
        decoder = self.decoder
        if not decoder.has_encoder:
            last = self.constant("minus_1_of_axis", np.int64(-1))
            hidden = self.node("Gather", [self.lines(hidden), last], "last_hidden", axis=1)
        if decoder.final_norm is not None:
            hidden = self.norm(hidden, decoder.final_norm, "final_norm")
        if decoder.head_transform is not None:
            linear, activation, norm = decoder.head_transform
            hidden = self.activated(self.linear(hidden, linear, "head_transform"), activation, "head_activated")
            hidden = self.norm(hidden, norm, "head_norm")
        hidden = self.scaled(hidden, decoder.head_scale, "head_scaled")
        if decoder.logit_cap:
            head = self.linear(hidden, decoder.head, "head")
            bounded = self.node("Tanh", [self.scaled(head, 1 / decoder.logit_cap, "head_small")], "head_bounded")
            self.node("Mul", [bounded, self.constant("logit_cap", np.float32(decoder.logit_cap))], "logits")
        else:
            self.linear(hidden, decoder.head, "head", "logits")
        size = decoder.head.weight.shape[0]
        self.outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", size]))

    def distance_bias(self, table: Weights | None, name: str) -> str:
        """(B, heads, 1, tokens): of each token of the cache, by how far it lies before the one that is read; layers may share
        it. Empty: there is none."""
        if table is None or id(table) in self.biases:
            return "" if table is None else self.biases[id(table)]
        self.biases[id(table)] = name
        past, total = self.places.past, self.places.total
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

    def after(self, hidden: str, result: str, norm: Norm, name: str, result_norm: Norm | None = None) -> str:
        if result_norm is not None:
            result = self.norm(result, result_norm, f"{name}.result")
        added = self.node("Add", [hidden, result], f"{name}.added")
        return added if self.decoder.is_pre_norm else self.norm(added, norm, name)

    def attention(self, given: Sequence[str], name: str, written: Sequence[str], **attributes: Any) -> str:
        decoder = self.decoder
        attributes |= {"num_heads": decoder.num_heads, "kv_num_heads": decoder.num_cached_heads}
        if decoder.attention_scale is not None:
            attributes["scale"] = decoder.attention_scale
        if decoder.attention_cap:
            attributes["softcap"] = decoder.attention_cap
        while not given[-1]:
            given = given[:-1]
        line = f"{name}.line"
        outputs = [line, *written]
        node = helper.make_node("GroupQueryAttention", given, outputs, line, domain=CONTRIB, **attributes)
        self.nodes.append(node)
        return self.flat(line, name, decoder.num_heads * decoder.head_size)

    def lines(self, tensor: str) -> str:
        """(B x T, features) as (B, T, features)."""
        if self.line_shape:
            return self.node("Reshape", [tensor, self.line_shape], f"{tensor}.lines")
        return self.node("Unsqueeze", [tensor, self.constant("axis_1", [1])], f"{tensor}.lines")

    def flat(self, tensor: str, name: str, width: int) -> str:
        """(B, T, features) as (B x T, features)."""
        if self.line_shape:
            return self.node("Reshape", [tensor, self.constant(f"flat.{width}", [-1, width])], name)
        return self.node("Squeeze", [tensor, self.constant("axis_1", [1])], name)

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
        shape: list[str | int | None] = ["B", self.decoder.num_cached_heads, capacity, self.decoder.head_size]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
