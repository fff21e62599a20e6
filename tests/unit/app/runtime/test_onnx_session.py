"""An engine that fails says what went wrong, and not where in its source."""

from __future__ import annotations

import json

import pytest

from app.runtime import onnx_session
from app.runtime.onnx_session import cause_of
from app.runtime.providers import Provider

PLUGIN = """[ONNXRuntimeError] : 11 : EP_FAIL : Exception from src/inference/src/cpp/core.cpp:117:
Exception from src/inference/src/dev/plugin.cpp:53:
Check '!shape.rank().is_dynamic()' failed at src/plugins/intel_cpu/src/node.cpp:108:
CPU plug-in doesn't support If operation with dynamic rank. Operation name: If_465

"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PLUGIN, "CPU plug-in doesn't support If operation with dynamic rank. Operation name: If_465"),
        ("[ONNXRuntimeError] : 1 : FAIL : no kernel\nmore", "[ONNXRuntimeError] : 1 : FAIL : no kernel"),
        ("Exception from src/a.cpp:1:\n", "Exception from src/a.cpp:1:"),
        ("", "ValueError"),
    ],
)
def test_the_cause_is_the_line_that_tells(text: str, cause: str) -> None:
    assert cause_of(ValueError(text)) == cause


@pytest.mark.parametrize(("num_threads", "pinning"), [(4, None), (2, "NO")])
def test_openvino_binds_threads_to_cores_only_where_one_engine_has_them_all(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, pinning: str | None
) -> None:
    monkeypatch.setattr(onnx_session, "available_cores", lambda: 4)
    config = onnx_session._openvino_config(Provider("openvino", "bf16", "for a test"), num_threads)
    of_processor = json.loads(config["load_config"])["CPU"]
    assert of_processor["INFERENCE_NUM_THREADS"] == str(num_threads)
    assert of_processor["INFERENCE_PRECISION_HINT"] == "bf16"
    assert of_processor.get("ENABLE_CPU_PINNING") == pinning
