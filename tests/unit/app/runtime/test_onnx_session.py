"""An engine that fails says what went wrong, and not where in its source."""

from __future__ import annotations

import pytest

from app.runtime.onnx_session import cause_of

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
