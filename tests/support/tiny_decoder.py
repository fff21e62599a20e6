"""A tiny encoder and decoder that write: two graphs of a few kilobytes, and the same arithmetic in numpy without any cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import models, pre_tokenizers, processors

from app.core.manifest import MANIFEST, Decoder, Graph, Manifest, Output, Parity, describe_file
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.decoder_session import DecoderFactory, open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.onnx_session import SessionFactory, open_session
from app.runtime.providers import Provider
from app.runtime.sampling import log_softmax
from app.tasks.generation import GOLDEN_NEW_TOKENS

CPU = Provider("cpu", "fp32", "for a test")
VOCABULARY, LAYERS, HEADS, SIZE = 24, 2, 2, 8
WIDTH = HEADS * SIZE
MAX_SOURCE_TOKENS, MAX_LENGTH = 16, 24
START, EOS = 1, 2
GOLDEN_TEXTS = ("w5 w6", "w7", "w12 w9 w20 w8", "w15 w15 w22")
TASK_OPTIONS = {"translation": {"source": "en", "target": "de"}}
GREEDY = SamplingParams(max_new_tokens=12, eos_token_ids=(EOS,))
FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


@cache
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(18)

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    made = {
        "source": 1.5 * matrix(VOCABULARY, WIDTH),
        "words": matrix(VOCABULARY, WIDTH),
        "positions": matrix(MAX_LENGTH, WIDTH),
    }
    made["to_cross"] = matrix(WIDTH, 2 * LAYERS * WIDTH) / 3
    for layer in range(LAYERS):
        made.update({f"{name}.{layer}": matrix(WIDTH, WIDTH) / 3 for name in ("q", "k", "v", "o", "cross_q", "cross_o")})
    made["head"], made["bias"] = matrix(WIDTH, VOCABULARY) / 2, np.zeros(VOCABULARY, np.float32)
    made["bias"][EOS] = 2.0
    return made


def write_encoder(path: Path) -> Graph:
    constants = {name: array for name, array in weights().items() if name in ("source", "to_cross")}
    nodes = [
        helper.make_node("Gather", ["source", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "to_cross"], ["cross"]),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", INT64, ["B", "S"])]
    _save(path, nodes, inputs, [helper.make_tensor_value_info("cross", FLOAT, ["B", "S", 2 * LAYERS * WIDTH])], constants)
    return Graph(
        file=path.name, layout="padded", inputs=("input_ids",), outputs=(Output(name="cross", axis="token"),), storage="fp32"
    )


def write_decoder(path: Path) -> Decoder:
    constants: dict[str, Any] = {name: array for name, array in weights().items() if name not in ("source", "to_cross")}
    constants |= {
        "axis_1": [1],
        "axis_3": [3],
        "heads": [0, 1, HEADS, SIZE],
        "flat": [0, 1, WIDTH],
        "scale": np.float32(SIZE**-0.5),
    }
    constants |= {"zero": np.int64(0), "one": np.int64(1), "two": np.int64(2), "low": np.float32(-1e9), "column": [-1, 1, 1, 1]}
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),  # (rows, 1, width)
        helper.make_node("Gather", ["positions", "past_lengths"], ["position"]),
        helper.make_node("Unsqueeze", ["position", "axis_1"], ["position_column"]),
        helper.make_node("Add", ["embedded", "position_column"], ["hidden.0"]),
        helper.make_node("Shape", ["cross_key.0"], ["cross_shape"]),
        helper.make_node("Gather", ["cross_shape", "two"], ["num_source"]),
        helper.make_node("Range", ["zero", "num_source", "one"], ["source_positions"]),
        helper.make_node("Cast", ["source_lengths"], ["lengths"], to=INT64),
        helper.make_node("Reshape", ["lengths", "column"], ["lengths_column"]),
        helper.make_node("Less", ["source_positions", "lengths_column"], ["is_source"]),  # (rows, 1, 1, source)
        helper.make_node("Not", ["is_source"], ["is_beyond"]),
        helper.make_node("Cast", ["is_beyond"], ["beyond"], to=FLOAT),
        helper.make_node("Mul", ["beyond", "low"], ["mask"]),
    ]
    for layer in range(LAYERS):
        nodes += _layer(layer)
    nodes += [
        helper.make_node("Squeeze", [f"hidden.{LAYERS}", "axis_1"], ["last"]),
        helper.make_node("MatMul", ["last", "head"], ["unbiased"]),
        helper.make_node("Add", ["unbiased", "bias"], ["logits"]),
    ]
    cache = [f"{kind}_{part}.{layer}" for kind in ("past", "cross") for part in ("key", "value") for layer in range(LAYERS)]
    inputs = [
        helper.make_tensor_value_info("input_ids", INT64, ["B", 1]),
        helper.make_tensor_value_info("past_lengths", INT32, ["B"]),
        helper.make_tensor_value_info("source_lengths", INT32, ["B"]),
        helper.make_tensor_value_info("total_length", INT32, []),
        *(helper.make_tensor_value_info(name, FLOAT, ["B", HEADS, name[:4], SIZE]) for name in cache),
    ]
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ["B", VOCABULARY])]
    outputs += [
        helper.make_tensor_value_info(f"new_{name}", FLOAT, ["B", HEADS, "past", SIZE]) for name in cache if "past" in name
    ]
    _save(path, nodes, inputs, outputs, constants)
    return Decoder(
        file=path.name,
        num_layers=LAYERS,
        num_heads=HEADS,
        head_size=SIZE,
        vocab_size=VOCABULARY,
        max_length=MAX_LENGTH,
        start_token_id=START,
        eos_token_ids=(EOS,),
    )


def write_model(folder: Path) -> Manifest:
    """Both graphs, and a manifest that is not written."""
    folder.mkdir(parents=True, exist_ok=True)
    return Manifest(
        name="tiny-writer",
        version=1,
        task="text2text-generation",
        created="2026-01-01T00:00:00Z",
        base_model="none",
        max_tokens=MAX_SOURCE_TOKENS,
        graph=write_encoder(folder / "model.onnx"),
        decoder=write_decoder(folder / "decoder.onnx"),
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
        files={},
    )


def tiny_engine(
    folder: Path,
    num_cache_rows: int = 8,
    session_factory: SessionFactory = open_session,
    decoder_factory: DecoderFactory = open_decoder,
) -> GenerationEngine:
    manifest = write_model(folder)
    return engine_of(folder, manifest, num_cache_rows, session_factory, decoder_factory)


def engine_of(
    folder: Path,
    manifest: Manifest,
    num_cache_rows: int,
    session_factory: SessionFactory = open_session,
    decoder_factory: DecoderFactory = open_decoder,
) -> GenerationEngine:
    assert manifest.decoder is not None
    encoder = EncoderEngine(folder / manifest.graph.file, manifest.graph, CPU, 1, session_factory)
    file = folder / manifest.decoder.file
    return GenerationEngine(manifest, encoder, file, decoder_factory(file, manifest.decoder, CPU, 1), CPU, num_cache_rows)


def tokenizer_json() -> str:
    """Words between blanks, and the token that ends a source behind them."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(4, VOCABULARY))]
    tokenizer = _Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    return str(tokenizer.to_str())


def source_of(text: str) -> Row:
    """The row that the tiny writer's task makes of a text."""
    token_ids = [int(word[1:]) for word in text.split()]
    return Row([*token_ids, EOS], [0] * (len(token_ids) + 1))


def text_of(token_ids: Sequence[int]) -> str:
    """Of what is written."""
    return " ".join(f"w{token}" for token in token_ids if token > 3)


def publish_tiny_decoder(
    models_dir: Path,
    name: str = "writer",
    version: int = 1,
    task: str = "text2text-generation",
    max_tokens: int = MAX_SOURCE_TOKENS,
    **decoder: Any,
) -> Path:
    """Write `models_dir/name/version`, which writes a text from a text; `decoder` is changed in the manifest. One that
    translates knows two languages.

    Returns:
        The folder.
    """
    folder = models_dir / name / str(version)
    manifest = write_model(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    golden = []
    for text in GOLDEN_TEXTS:
        written = greedily(source_of(text), GOLDEN_NEW_TOKENS)
        reason = "stop" if written[-1] == EOS else "length"
        answer = {"text": text_of(written), "finish_reason": reason, "num_new_tokens": len(written), "alternatives": None}
        golden.append({"item": {"text": text}, "answer": answer})
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    assert manifest.decoder is not None
    changes = {
        "name": name,
        "version": version,
        "task": task,
        "max_tokens": max_tokens,
        "task_options": TASK_OPTIONS.get(task, {}),
        "decoder": manifest.decoder.model_copy(update=decoder),
    }
    changes["files"] = {path.name: describe_file(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(manifest.model_copy(update=changes).as_json(), encoding="utf-8")
    return folder


# --- the same in numpy


def logits_after(source: Row, token_ids: Sequence[int]) -> np.ndarray:
    """Of the token that follows these, the start token included: (vocabulary,); all of it is computed anew."""
    made = weights()
    cross = (made["source"][list(source.input_ids)] @ made["to_cross"]).reshape(-1, LAYERS, 2, HEADS, SIZE)
    hidden = made["words"][list(token_ids)] + made["positions"][: len(token_ids)]
    causal = np.triu(np.full((len(token_ids),) * 2, -np.inf), 1)
    for layer in range(LAYERS):
        q, k, v = ((hidden @ made[f"{name}.{layer}"]).reshape(-1, HEADS, SIZE) for name in "qkv")
        hidden = hidden + _attention(q, k, v, causal) @ made[f"o.{layer}"]
        q = (hidden @ made[f"cross_q.{layer}"]).reshape(-1, HEADS, SIZE)
        hidden = hidden + _attention(q, cross[:, layer, 0], cross[:, layer, 1], 0.0) @ made[f"cross_o.{layer}"]
    last: np.ndarray = hidden[-1] @ made["head"] + made["bias"]
    return last


def greedily(source: Row, max_new_tokens: int = GREEDY.max_new_tokens, first: Sequence[int] = (START,)) -> list[int]:
    """What is written after the source, EOS included."""
    token_ids = list(first)
    while len(token_ids) < len(first) + max_new_tokens:
        token_ids.append(int(logits_after(source, token_ids).argmax()))
        if token_ids[-1] == EOS:
            break
    return token_ids[len(first) :]


def log_probability(source: Row, written: Sequence[int]) -> float:
    """Of all of these tokens after the start token."""
    read = [START, *written]
    return float(sum(log_softmax(logits_after(source, read[:end]))[read[end]] for end in range(1, len(read))))


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Any) -> np.ndarray:
    scores = np.einsum("ihd,jhd->hij", q, k) * SIZE**-0.5 + mask
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    read: np.ndarray = np.einsum("hij,jhd->ihd", shares / shares.sum(axis=-1, keepdims=True), v)
    return read.reshape(len(q), WIDTH)


def _layer(layer: int) -> list[Any]:
    def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
        read, written = (
            [f"{name[:-1]}.{layer}" if name.endswith("@") else name for name in names.split()] for names in (inputs, outputs)
        )
        return helper.make_node(kind, read, written, **attributes)

    caches = "past_key@ past_value@"
    return [
        *(node("MatMul", f"hidden@ {name}@", f"{name}_of@") for name in "qkv"),
        node(
            "GroupQueryAttention",
            f"q_of@ k_of@ v_of@ {caches} past_lengths total_length",
            "attended@ new_past_key@ new_past_value@",
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
        ),
        node("MatMul", "attended@ o@", "added@"),
        node("Add", "hidden@ added@", "between@"),
        node("MatMul", "between@ cross_q@", "cross_q_flat@"),
        node("Reshape", "cross_q_flat@ heads", "cross_q_rows@"),
        node("Transpose", "cross_q_rows@", "cross_q_of@", perm=[0, 2, 1, 3]),  # (rows, heads, 1, size)
        node("Transpose", "cross_key@", "cross_key_columns@", perm=[0, 1, 3, 2]),
        node("MatMul", "cross_q_of@ cross_key_columns@", "products@"),
        node("Mul", "products@ scale", "scaled@"),
        node("Add", "scaled@ mask", "masked@"),
        node("Softmax", "masked@", "shares@", axis=3),
        node("MatMul", "shares@ cross_value@", "read@"),
        node("Transpose", "read@", "read_rows@", perm=[0, 2, 1, 3]),
        node("Reshape", "read_rows@ flat", "read_flat@"),
        node("MatMul", "read_flat@ cross_o@", "cross_added@"),
        helper.make_node("Add", [f"between.{layer}", f"cross_added.{layer}"], [f"hidden.{layer + 1}"]),
    ]


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> None:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
