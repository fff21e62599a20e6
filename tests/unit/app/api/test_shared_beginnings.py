"""Over HTTP: how much of a prompt was not read again is told to whoever asked before with the same key, and to nobody else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from app.runtime import prompts
from tests.support.requests import Service
from tests.support.tiny_continuer import publish_tiny_continuer
from tests.unit.app.conftest import running

PROMPT = "w5 w6 w7 w8 w9 w10 w11 w12 w13"  # ten tokens
SIZE = 4
KEYS = ("one key", "another key")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(prompts, "PROMPT_TOKENS", SIZE)
    publish_tiny_continuer(tmp_path)
    return tmp_path


async def cached(service: Service, key: str = "", prompt: Any = PROMPT, path: str = "/v1/completions", **options: Any) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    asked = {"prompt": prompt} if path == "/v1/completions" else {"messages": [{"role": "user", "content": prompt}]}
    response = await service.client.post(path, json={"max_tokens": 2, **asked, **options}, headers=headers)
    assert response.status_code == 200, response.text
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] == 10 if isinstance(prompt, str) else 20
    return int(usage["prompt_tokens_details"]["cached_tokens"])


async def test_each_key_has_its_own_beginnings(models: Path) -> None:
    hashes = tuple(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)
    async with running(models=models, api_key_hashes=hashes) as service:
        for key in KEYS:
            assert [await cached(service, key) for _ in range(2)] == [0, 8]


async def test_what_is_reused_is_told_once_for_each_prompt_and_counted(models: Path) -> None:
    async with running(models=models) as service:
        assert await cached(service, n=3, temperature=1.0) == 0
        assert await cached(service, n=3, temperature=1.0) == 8
        assert await cached(service, prompt=[PROMPT, PROMPT]) == 16
        assert await cached(service, path="/v1/chat/completions", prompt=PROMPT) in (0, 8)
        native = await service.client.post("/v1/generate", json={"inputs": PROMPT, "max_new_tokens": 2})
        assert native.json()["results"][0]["num_tokens"] == 10
        metrics = (await service.client.get("/metrics")).text
    told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith(("hooper_prompt", "hooper_prefix")))
    assert float(told['hooper_prompt_tokens_total{model="story",source="reused"}']) >= 2 * 8 + 3 * 8 + 2 * 8 + 8
    assert float(told['hooper_prompt_tokens_total{model="story",source="read"}']) > 10
    assert float(told['hooper_prefix_cache_bytes{model="story"}']) > 0
    assert float(told['hooper_prefix_cache_evictions_total{model="story"}']) == 0


async def test_a_stream_tells_it_too_and_nothing_is_kept_where_it_is_off(models: Path) -> None:
    streamed = {"prompt": PROMPT, "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
    for is_on in (True, False):
        async with running(models=models, prefix_cache=is_on) as service:
            told = [(await service.client.post("/v1/completions", json=streamed)).text for _ in range(2)]
            assert ['"cached_tokens":8' in text.replace(" ", "") for text in told] == [False, is_on]
            assert ('hooper_prefix_cache_bytes{model="story"} 0.0' in (await service.client.get("/metrics")).text) != is_on
