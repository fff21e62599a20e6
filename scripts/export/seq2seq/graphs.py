"""A model of transformers becomes two graphs: its encoder's, and that of one step of its decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from app.core.manifest import Decoder, Graph, Output
from app.core.types import Row
from scripts.export.export import export_model
from scripts.export.optimize import MODEL, save
from scripts.export.seq2seq.causal_families import causal_family_of
from scripts.export.seq2seq.families import family_of, num_positions
from scripts.export.seq2seq.source_encoder import OUTPUT, Known, SourceEncoder
from scripts.export.seq2seq.step_graph import DecoderWeights, build_step_graph

DECODER = "decoder.onnx"
"""Name of the step's graph in a version's folder, beside an encoder."""
STEP_INPUTS = ("input_ids", "past_lengths", "total_length")
"""Of a graph that is the whole model, beside its cache."""


@dataclass(frozen=True)
class WriterGraphs:
    """Both graphs in fp32."""

    encoder_file: Path
    graph: Graph
    decoder_file: Path
    decoder: Decoder


def export_writer(model: Any, rows: Sequence[Row], folder: Path, known: Known = None, **decoder: Any) -> WriterGraphs:
    """Write both graphs to `folder`; of a model without an encoder one, which is both.

    Args:
        model: of transformers, with its head.
        rows: sources of many lengths; on a few of them the encoder's graph is compared with torch.
        folder: where they are written.
        known: as for `SourceEncoder`.
        decoder: what the manifest says of the decoder beyond what its weights say: start and end tokens, generation.

    Raises:
        InvalidSettings: its decoder activates by a function that the graph does not know.
        ExportFailed: its encoder cannot become a graph.
    """
    if not model.config.is_encoder_decoder:
        return _export_causal(causal_family_of(model).weights(model.eval()), folder, decoder)
    weights = family_of(model).weights(model.eval())
    exported = export_model(SourceEncoder(model, known), "token", rows, folder)
    _rename_output(exported.file, OUTPUT)
    graph = exported.graph.model_copy(update={"outputs": (Output(name=OUTPUT, axis="token"),)})
    file = folder / DECODER
    save(build_step_graph(weights), file)
    return WriterGraphs(exported.file, graph, file, describe_decoder(weights, {"file": DECODER, **decoder}))


def _export_causal(weights: DecoderWeights, folder: Path, decoder: Mapping[str, Any]) -> WriterGraphs:
    file = folder / DECODER
    save(build_step_graph(weights), file)
    graph = Graph(file=MODEL, layout="padded", inputs=STEP_INPUTS, outputs=(Output(name="logits", axis="row"),), storage="fp32")
    described = describe_decoder(weights, {"file": MODEL, "has_encoder": False, **decoder})
    return WriterGraphs(file, graph, file, described)


def describe_decoder(weights: DecoderWeights, fields: Mapping[str, Any]) -> Decoder:
    """Its entry in the manifest; what is not in `fields` follows from its weights."""
    shape = {
        "num_layers": len(weights.layers),
        "num_heads": weights.num_cached_heads,
        "head_size": weights.head_size,
        "vocab_size": len(weights.head.weight),
        "max_length": num_positions(weights),
    }
    return Decoder(**{**shape, **fields})


def _rename_output(file: Path, name: str) -> None:
    """Of a graph with one output."""
    model = onnx.load(file, load_external_data=False)
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [name if tensor == output.name else tensor for tensor in node.output]
        node.input[:] = [name if tensor == output.name else tensor for tensor in node.input]
    output.name = name
    onnx.save(model, file)
