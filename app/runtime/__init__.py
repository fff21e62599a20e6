"""ONNX Runtime: the only home of onnxruntime."""
