"""How engines say that they ran out of memory: ONNX Runtime has no error of its own for it, only words."""

from __future__ import annotations

WORDS = (
    "Failed to allocate memory",  # ONNX Runtime's arena, on the CPU and on CUDA
    "bad_alloc",  # its CPU allocator without an arena, and OpenVINO on a CPU
    "out of memory",  # CUDA's own error, 2
    "is smaller than requested bytes",  # the arena under `gpu_mem_limit`
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "OutOfMemory",  # TensorRT
    "out of GPU resources",  # OpenVINO on a GPU, and the next three
    "CL_OUT_OF_RESOURCES",
    "CL_OUT_OF_HOST_MEMORY",
    "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    "Exceeded max size of memory",
    "bytes of memory",  # OpenVINO: "Failed to allocate 74784858112 bytes of memory"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how an engine, or Python, says that there was no memory.

    The type says nothing: the CPU's arena raises `Fail` and its plain allocator `RuntimeException`, as any broken node does.
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in WORDS)
