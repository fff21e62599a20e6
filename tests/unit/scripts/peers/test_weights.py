"""Others are measured on the very weights that are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.peers.weights import write_transformers_folder
from tests.support.tiny_model import publish_tiny

pytestmark = pytest.mark.slow
SENTIMENT = Path("models/sentiment/2")
IDS = [101, 2023, 2003, 2307, 102]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("transformers")
    write_transformers_folder(SENTIMENT, target)
    return target


def test_their_onnx_export_answers_as_the_published_graph_does(folder: Path) -> None:
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    padded = {"input_ids": [[*IDS, 0, 0]], "attention_mask": [[1] * 5 + [0, 0]], "token_type_ids": [[0] * 7]}
    (theirs,) = session.run(["logits"], {name: np.array(value, np.int64) for name, value in padded.items()})
    manifest = read_manifest(SENTIMENT)
    (ours,) = EncoderEngine(SENTIMENT / "model.onnx", manifest.graph, choose_provider("cpu"), 1).run_rows([Row(IDS, [0] * 5)])
    np.testing.assert_allclose(theirs[0], ours["logits"], atol=1e-4)


def test_transformers_reads_the_folder(folder: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("this is great")["input_ids"] == IDS
    assert model.config.id2label == dict(enumerate(read_manifest(SENTIMENT).task_options["labels"]))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    published = publish_tiny(tmp_path / "models", "tiny")
    with pytest.raises(InvalidSettings, match="cannot be trained further"):
        write_transformers_folder(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()
