"""Runs llama.cpp's own converter of checkpoints, which can do without `llama-quantize` then: for `q4_0` the matrices of layers
become Q4_0 and the table of words Q8_0. Run by `python -m scripts.peers.decoders`. Not part of Hooper's own.

    python gguf_converter.py FOLDER_OF_LLAMA_CPP CHECKPOINT OUTPUT.gguf f32|q8_0|q4_0
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any


def main(llama_cpp: str, checkpoint: str, output: str, kind: str) -> None:
    sys.path[:0] = [llama_cpp, str(Path(llama_cpp) / "gguf-py")]
    from conversion import base  # type: ignore[import-not-found, unused-ignore]

    known = base.TextModel.get_vocab_base_pre

    def pre_tokenizer(model: Any, tokenizer: Any) -> str:
        try:
            return str(known(model, tokenizer))
        except NotImplementedError:  # it knows tokenizers by a sum of theirs; how words are cut matters little for speed
            return "gpt-2"

    base.TextModel.get_vocab_base_pre = pre_tokenizer
    if kind == "q4_0":
        import gguf  # type: ignore[import-not-found, unused-ignore]

        def chosen(_: Any, name: str, new_name: str, bid: int | None, n_dims: int) -> Any:
            if n_dims != 2:
                return False
            return gguf.GGMLQuantizationType.Q8_0 if bid is None else gguf.GGMLQuantizationType.Q4_0

        base.ModelBase.tensor_force_quant = chosen
    script = str(Path(llama_cpp) / "convert_hf_to_gguf.py")
    sys.argv = [script, checkpoint, "--outfile", output, "--outtype", "q8_0" if kind == "q4_0" else kind]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
