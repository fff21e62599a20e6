"""llama.cpp's converter is run as it is, and told which tensors become Q4_0 and how it may take unknown tokenizers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.peers import gguf_converter

CONVERTER = """
import json, sys
from pathlib import Path
from conversion.base import ModelBase, TextModel
told = [ModelBase().tensor_force_quant("", "", bid, n_dims) for bid, n_dims in ((0, 2), (None, 2), (0, 1))]
words = [TextModel().get_vocab_base_pre(tokenizer) for tokenizer in ("known", "another")]
Path(sys.argv[sys.argv.index("--outfile") + 1]).write_text(json.dumps([sys.argv[1], sys.argv[-1], told, words]))
"""
BASE = """
class ModelBase:
    def tensor_force_quant(self, name, new_name, bid, n_dims):
        return False

class TextModel(ModelBase):
    def get_vocab_base_pre(self, tokenizer):
        if tokenizer != "known":
            raise NotImplementedError
        return "llama-bpe"
"""
GGUF = "class GGMLQuantizationType:\n    Q8_0, Q4_0 = 'Q8_0', 'Q4_0'\n"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("f32", '["checkpoint", "f32", [false, false, false], ["llama-bpe", "gpt-2"]]'),
        ("q4_0", '["checkpoint", "q8_0", ["Q4_0", "Q8_0", false], ["llama-bpe", "gpt-2"]]'),
    ],
)
def test_layers_become_q4_and_the_table_of_words_q8(kind: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "conversion").mkdir()
    (tmp_path / "gguf-py").mkdir()
    files = {"convert_hf_to_gguf.py": CONVERTER, "conversion/base.py": BASE, "gguf-py/gguf.py": GGUF}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    output = tmp_path / "out.gguf"
    words = [str(gguf_converter.__file__), str(tmp_path), "checkpoint", str(output), kind]
    subprocess.run([sys.executable, *words], check=True)
    assert output.read_text(encoding="utf-8") == told
