"""From conversations, or prompts and completions, to a published model that continues texts, with tiny checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from app.core.errors import InvalidSettings
from app.core.manifest import read_manifest
from scripts.export.published import open_version
from scripts.report.build import evaluate_version
from scripts.training.data import read_all
from scripts.training.dry_run import examine_run
from scripts.training.pipeline import Pipeline
from scripts.training.recipe import recipe_of
from tests.support.tiny_causal import save_checkpoint

CHAT = "{% for m in messages %}{{ m.role }} {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
WORDS = ("the", "film", "was", "good", "old", "town", "not", "very")


def pipeline(folder: Path, said: list[str], **values: Any) -> Pipeline:
    """Of a checkpoint with a chat template, on conversations or on pairs."""
    base = save_checkpoint(values.pop("family", "llama"), folder / "base")
    (base / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    pairs = [(f"{one} {other}", f"{other} {one}") for one in WORDS for other in WORDS]
    rows = [{"prompt": prompt, "completion": f" {completion}"} for prompt, completion in pairs]
    if values.pop("is_chat", False):
        rows = [{"messages": [said_by("user", prompt), said_by("assistant", answer)]} for prompt, answer in pairs]  # type: ignore[misc]
    data = folder / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = {
        "name": "words", "task": "text-generation", "data": [str(data)], "base_model": str(base), "precision": "fp32",
        "runs": str(folder / "runs"), "models": str(folder / "models"), "learning_rate": 5e-3, "batch_tokens": 256,
    }  # fmt: skip
    return Pipeline(recipe_of({**recipe, **values}), None, lambda stage, text: said.append(f"{stage} {text}"))


def said_by(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.slow
def test_conversations_are_learnt_by_adapters_and_published(tmp_path: Path) -> None:
    said: list[str] = []
    line = pipeline(tmp_path, said, is_chat=True, lora_rank=4, epochs=12, storage="fp32")
    published = line.run(resume=False)
    assert published is not None
    manifest, figures = read_manifest(published.folder), published.evaluation["perplexity"]
    assert manifest.task_options["chat_template"] == {"default": CHAT}
    assert manifest.data_format.columns == {"text": "messages", "label": "messages"}
    assert figures["perplexity"] < figures["before"] / 2
    assert published.evaluation["headline"].keys() == {"exact_match", "rougeLsum", "mean_chrf", "rows"}
    final = transformers.AutoModelForCausalLM.from_pretrained(line.run_folder.final)
    assert not any("lora" in name for name in final.state_dict())
    assert transformers.AutoTokenizer.from_pretrained(line.run_folder.final).chat_template == CHAT
    version = open_version("words", tmp_path / "models", may_write=True)
    examples = line.check_start(line.load(read_all(line.recipe)), line.find_start()).dataset.validation
    again = evaluate_version(version, examples)
    own = version.training.evaluate(again.predictions.answers, examples, manifest.task_options)
    assert own["headline"] == published.evaluation["headline"]
    page = published.report.read_text(encoding="utf-8") if published.report else ""
    assert "Side by side" in page
    sentence = f"Perplexity of the targets {figures['perplexity']:,g} per token"
    assert sentence in page
    assert sentence in (published.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_resumed_run_of_prompts_ends_with_the_same_weights(tmp_path: Path) -> None:
    line = pipeline(tmp_path, [], family="gpt2", epochs=2)
    start = line.find_start()
    prepared = line.check_start(line.load(read_all(line.recipe)), start)
    line.train(prepared, resume=False, start=start)
    final = line.run_folder.final
    weights = load_file(final / "model.safetensors")
    shutil.rmtree(final)
    shutil.rmtree(line.run_folder.checkpoints[-1])
    line.train(prepared, resume=True, start=start)
    resumed = load_file(final / "model.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in weights.items())
    assert line.run_folder.cost["resumed_after_updates"] > 0


def test_a_dry_run_looks_at_everything_and_writes_nothing(tmp_path: Path) -> None:
    line = pipeline(tmp_path, [], is_chat=True)
    checks = list(examine_run(line))
    assert [check.detail for check in checks if check.level == "problem"] == []
    assert {"base model", "data", "memory", "time", "publish"} <= {check.name for check in checks}
    assert not (tmp_path / "runs").exists()


def test_rows_that_are_all_too_long_are_refused_in_a_sentence(tmp_path: Path) -> None:
    line = pipeline(tmp_path, [], max_tokens=8, is_chat=True)
    problems = [check.detail for check in examine_run(line) if check.level == "problem"]
    sentence = (
        "no row fits: prompt and completion may have 8 tokens together; say --max-tokens N where the base model reads more"
    )
    assert problems == [f"{sentence}, or shorten them"]


def test_conversations_need_a_chat_template(tmp_path: Path) -> None:
    line = pipeline(tmp_path, [], is_chat=True)
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(InvalidSettings, match=r"data.jsonl:\d+: it is a conversation, but the base model has no chat template"):
        line.check_start(line.load(read_all(line.recipe)), line.find_start())
