"""How engines say that they ran out of memory."""

from __future__ import annotations

import pytest

from app.runtime.memory import is_out_of_memory

SAID = [
    "[ONNXRuntimeError] : 1 : FAIL : Status Message: bfc_arena.cc:360 Failed to allocate memory for buffer of size 6871",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Status Message: std::bad_alloc",
    "Available memory of 1048576 is smaller than requested bytes of 8388608",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc((void**)&p, size);",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);",
    "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
    "[GPU] out of GPU resources",
    "[GPU] Exceeded max size of memory object allocation: requested 2305843008391495680 bytes",
    "[GPU] CL_OUT_OF_RESOURCES exception",
    "Failed to allocate 74784858112 bytes of memory",
]
"""The first two, shortened, are what ONNX Runtime 1.32 raised on a CPU; the others are as people's reports have them."""


@pytest.mark.parametrize("said", SAID)
def test_words_for_a_lack_of_memory_are_known(said: str) -> None:
    assert is_out_of_memory(RuntimeError(said))


def test_pythons_own_lack_of_memory_is_one() -> None:
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    "said",
    [
        "Non-zero status code returned while running Loop node. Exiting due to terminate flag being set to true.",
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: input_ids",
        "CUDA failure 700: an illegal memory access was encountered",
        "",
    ],
)
def test_other_failures_are_none(said: str) -> None:
    assert not is_out_of_memory(RuntimeError(said))
