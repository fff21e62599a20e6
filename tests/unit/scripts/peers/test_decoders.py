"""What is measured of models that continue texts beside others, without the others."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.artefact import open_artefact
from app.core.errors import SetupError
from app.settings import Settings
from app.tasks.tokenizer import Tokenizer
from scripts.export.commands import add
from scripts.export.published import open_folder
from scripts.peers import decoders
from scripts.peers.decoders import ask, page, prompts, ratios, with_all_forms
from tests.support.tiny_causal import save_checkpoint
from tests.support.tiny_model import tokenizer_json
from tests.support.tiny_writer import TEXTS

FIGURES = {"tokens_per_s": 30.0, "first_token_s": 1.0}


def row(engine: str, times: float) -> dict[str, Any]:
    return {"precision": "int4", "engine": engine, **{name: times * figure for name, figure in FIGURES.items()}}


def test_ratios_are_hoopers_figures_in_parts_of_anothers() -> None:
    rows = [row("Hooper", 1), row("llama.cpp", 2), row("onnxruntime-genai", 0.5)]
    assert ratios(rows) == [
        {"precision": "int4", "Hooper beside": "llama.cpp", "tokens_per_s": 0.5, "first_token_s": 0.5},
        {"precision": "int4", "Hooper beside": "onnxruntime-genai", "tokens_per_s": 2.0, "first_token_s": 2.0},
    ]
    text = page({"longest": 1000, "new_tokens": 64, "turns": 3, "engines": rows, "ratios": ratios(rows)})
    assert "| int4 | llama.cpp | 60.0 | 2.0 |" in text
    assert "| int4 | onnxruntime-genai | 2.0 | 2.0 |" in text
    assert "16 callers, prompts of 20 to 1000 tokens, 64 new tokens each; medians of 3 turns" in text.replace("\n", " ")


def test_prompts_are_spread_over_the_lengths_and_new_every_time() -> None:
    tokenizer = Tokenizer(tokenizer_json(), 512)
    texts = prompts(tokenizer, 5, 0, (4, 20))
    sizes = sorted(len(tokens) for tokens in tokenizer.pieces().encode(texts))
    assert sizes[0] <= 4 < sizes[2] < sizes[4] <= 20
    assert prompts(tokenizer, 5, 0, (4, 20)) == texts
    assert not set(prompts(tokenizer, 5, 1, (4, 20))) & set(texts)


def test_a_request_does_not_end_early_and_a_refusal_is_told() -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200 if request.url.path == "/v1/generate" else 503, text="data: {}\n\n")

    async def run(engine: str) -> float:
        async with httpx.AsyncClient(base_url="http://one", transport=httpx.MockTransport(answer)) as client:
            return await ask(client, engine, "a text", 9)

    assert asyncio.run(run("Hooper")) > 0
    with pytest.raises(SetupError, match=r"llama.cpp answers 503: b'data: \{\}"):
        asyncio.run(run("llama.cpp"))
    own, other = asked
    assert (own["min_new_tokens"], own["max_new_tokens"], own["stream"]) == (9, 9, True)
    assert (other["n_predict"], other["ignore_eos"], other["cache_prompt"], other["stream"]) == (9, True, False, True)


@pytest.mark.slow
async def test_all_forms_are_served_whatever_they_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.main import create_app

    (tmp_path / "texts.txt").write_text(TEXTS[0], encoding="utf-8")
    folder, models = save_checkpoint("llama", tmp_path / "tiny"), tmp_path / "models"
    assert add([str(folder), "--models", str(models), "--data", str(tmp_path / "texts.txt")]) == 0
    small = [(precision, name, partial(write, min_weights=100)) for precision, name, write in decoders.FORMS]  # type: ignore[call-arg]
    monkeypatch.setattr(decoders, "FORMS", small)
    monkeypatch.setattr(decoders, "TEXTS", TEXTS)
    version = models / "tiny" / "1"
    with_all_forms(open_folder(version, may_write=True))
    assert open_artefact(version).manifest.parity.keys() == {"fp32", "int8", "int4"}
    for setting, precision in (("fp32", "fp32"), ("auto", "int8"), ("int4", "int4")):
        app = create_app(Settings(models=models, precision=setting, device="cpu", engine_threads=1))  # type: ignore[arg-type]
        async with app.router.lifespan_context(app):
            await app.state.loading
            (deployment,) = app.state.hooper.registry.deployments
            assert deployment.decoder_provider.precision == precision
