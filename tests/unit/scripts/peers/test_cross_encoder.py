"""An int8 graph of ONNX Runtime's becomes a checkpoint again, but for its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic

from scripts.peers.cross_encoder import graph_weights
from scripts.peers.weights import export_onnx
from tests.unit.scripts.conftest import save_checkpoint


def test_each_parameter_of_a_quantized_graph_has_its_name_in_torch(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "ranker", num_labels=1)
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    for parameter in model.parameters():  # equal ones would be one in the graph
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    export_onnx(folder)
    quantize_dynamic(folder / "onnx" / "model.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    found = dict(graph_weights(tmp_path / "int8.onnx"))
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    assert found.keys() == weights.keys()
    for name, array in found.items():
        assert array.shape == weights[name].shape
        assert np.abs(array - weights[name]).max() <= 0.02 * max(1.0, np.abs(weights[name]).max()), name
