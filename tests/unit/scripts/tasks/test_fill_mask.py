"""Masked language models are published as they are, and fill masks as transformers' pipeline does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, decoders
from tokenizers import Tokenizer as _Tokenizer

from app.core.errors import InvalidSettings
from app.tasks.base import Encoded
from app.tasks.fill_mask.task import FilledMasks, FillMask, FillOptions, MaskedItem
from scripts.export.commands import add
from scripts.export.published import OpenVersion, open_folder
from scripts.tasks import published_names, task_names
from scripts.tasks.fill_mask import SPEC
from scripts.training.recipe import Recipe
from tests.support.tiny_model import tokenizer_json
from tests.support.tokenizer_types import definition
from tests.unit.scripts.conftest import SIZES

BYTE_LEVEL = "byte-level BPE, trim True, prefix False False"


def save(folder: Path, family: str, tokenizer: str, **special: Any) -> Path:
    """A tiny masked language model with random weights and this tokenizer, as transformers saves it."""
    torch.manual_seed(1)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=_Tokenizer.from_str(tokenizer), **special)
    pad = {"pad_token_id": fast.pad_token_id}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(fast), **{**SIZES[family], **pad})
    model = getattr(transformers, f"{family}ForMaskedLM")(config)
    for weights in model.parameters():
        if weights.ndim == 2:
            torch.nn.init.normal_(weights, std=0.5)
    model.eval().save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def word_piece(folder: Path, family: str) -> Path:
    special: dict[str, Any] = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    if family in ("DistilBert", "MPNet"):  # which take no token types
        special["model_input_names"] = ["input_ids", "attention_mask"]
    return save(folder, family, tokenizer_json(has_mask=True), **special)


def byte_level(folder: Path) -> Path:
    mask = AddedToken("<mask>", lstrip=True, special=True)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": mask}
    tokenizer = _Tokenizer.from_str(definition(BYTE_LEVEL))
    tokenizer.decoder = decoders.ByteLevel()
    return save(folder, "Roberta", str(tokenizer.to_str()), **special)


def published(checkpoint: Path, folder: Path) -> OpenVersion:
    assert add([str(checkpoint), "--name", "fill", "--models", str(folder), "--storage", "fp32"]) == 0
    return open_folder(folder / "fill" / "1")


def ask(version: OpenVersion, text: str, options: FillOptions) -> FilledMasks:
    (encoded,) = version.task.encode([MaskedItem(text)], options)
    assert isinstance(encoded, Encoded)
    answer: FilledMasks = version.task.decode(encoded, version.session.run_rows(encoded.rows), options)
    return answer


def check_like_the_pipeline(checkpoint: Path, version: OpenVersion, texts: list[str], targets: list[str]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForMaskedLM.from_pretrained(checkpoint)
    pipe = transformers.FillMaskPipeline(model=model, tokenizer=tokenizer, device="cpu")
    for text in texts:
        for top_k, wanted in ((7, None), (5, targets)):
            answer = ask(version, text, FillOptions(top_k, None if wanted is None else tuple(wanted), is_hub=True))
            expected = pipe(text, top_k=top_k, targets=wanted)
            for mask, fills in zip(answer.masks, [expected] if len(answer.masks) == 1 else expected, strict=True):
                assert [(fill.id, fill.token, fill.sequence) for fill in mask.fills] == [
                    (fill["token"], fill["token_str"], fill["sequence"]) for fill in fills
                ]
                assert [fill.score for fill in mask.fills] == pytest.approx([fill["score"] for fill in fills], abs=1e-4)


def test_a_bert_fills_masks_as_transformers_pipeline_does_and_gathers_them_in_its_graph(tmp_path: Path) -> None:
    checkpoint = word_piece(tmp_path / "checkpoint", "Bert")
    version = published(checkpoint, tmp_path / "models")
    manifest = version.manifest
    assert (manifest.task, manifest.graph.layout, manifest.task_options) == ("fill-mask", "packed", {})
    assert [(output.axis, "gather" in manifest.graph.inputs) for output in manifest.graph.outputs] == [("position", True)]
    texts = ["the [MASK] was good.", "[MASK] film was [MASK] [MASK]", "A [MASK]"]
    check_like_the_pipeline(checkpoint, version, texts, ["good", "bad", "film"])
    (row,) = version.task.encode([MaskedItem(texts[1])], FillOptions())[0].rows
    (output,) = version.session.run_rows([row])
    assert output["logits"].shape == (3, 15)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["DistilBert", "Electra", "Albert", "MPNet"])
def test_other_families_fill_masks_as_transformers_pipeline_does(family: str, tmp_path: Path) -> None:
    checkpoint = word_piece(tmp_path / "checkpoint", family)
    version = published(checkpoint, tmp_path / "models")
    check_like_the_pipeline(checkpoint, version, ["the [MASK] was good.", "[MASK] film was [MASK]"], ["good", "bad"])


def test_a_roberta_fills_masks_as_transformers_pipeline_does(tmp_path: Path) -> None:
    checkpoint = byte_level(tmp_path / "checkpoint")
    version = published(checkpoint, tmp_path / "models")
    texts = ["The <mask> cost 1,000.", "<mask> bridge, paid by <mask>.", "When did it <mask>"]
    check_like_the_pipeline(checkpoint, version, texts, ["library", "bridge", "\u0120the"])


def test_nobody_is_offered_to_train_one() -> None:
    assert "fill-mask" in published_names()
    assert "fill-mask" not in task_names()
    with pytest.raises(InvalidSettings, match="cannot be trained here; publish one: hooper models add"):
        SPEC.prepare(Recipe(), {})
    with pytest.raises(InvalidSettings, match="is not measured"):
        SPEC.evaluate([], [], {})


def test_built_in_texts_have_a_mask_whatever_the_model_calls_it() -> None:
    items = [SPEC.item(fields) for fields in SPEC.sample_items(["no", "one two three", "word " * 30], [])]
    assert [item.text.count("[MASK]") for item in items] == [1, 1, 2]
    task = SPEC.serving_task(open_tokenizer(), {})
    assert isinstance(task, FillMask)
    assert all(isinstance(encoded, Encoded) for encoded in task.encode(items, FillOptions()))


def open_tokenizer() -> Any:
    from tests.support.tiny_model import tiny_tokenizer

    return tiny_tokenizer(has_mask=True)
