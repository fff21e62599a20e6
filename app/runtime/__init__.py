"""ONNX Runtime: the only home of onnxruntime."""

import os

# onnxruntime reports its use to its makers unless it is told otherwise before it is loaded; Hooper sends nothing anywhere
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
