"""The published model as a folder that transformers and its kin can read: so that others are measured with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path


def write_transformers_folder(published: Path, target: Path) -> None:
    """Write config, safetensors, tokenizer and a plain ONNX export (`onnx/model.onnx`) of a published version.

    Args:
        target: the folder to fill; it need not exist.

    Raises:
        InvalidSettings: its graph cannot be read back.
        InvalidArtefact: the folder is broken or altered.
    """
    import transformers

    from scripts.export.published_checkpoint import restore

    version = restore(published)
    shutil.copytree(version.location, target, dirs_exist_ok=True)
    (target / "tokenizer.json").write_text(version.tokenizer, encoding="utf-8")
    transformers.BertTokenizerFast(
        tokenizer_file=str(target / "tokenizer.json"), model_max_length=version.manifest.max_tokens
    ).save_pretrained(target)  # fmt: skip
    export_onnx(target)


def export_onnx(folder: Path) -> None:
    """Write `onnx/model.onnx` of a folder that transformers reads, as optimum does, for others to serve."""
    import transformers

    from scripts.export.export import quiet

    (architecture,) = transformers.AutoConfig.from_pretrained(folder).architectures
    model = getattr(transformers, architecture).from_pretrained(folder)
    with quiet():
        from optimum.exporters.onnx import onnx_export_from_model

        onnx_export_from_model(model, folder / "onnx", do_validation=False)
