"""The signatures of the client are those of the routes."""

from __future__ import annotations

from pathlib import Path

from scripts.release.client_methods import client_methods

ROOT = Path(__file__).parents[4]


def test_the_file_is_what_the_tasks_say() -> None:
    assert (ROOT / "hooper/client/methods.pyi").read_text(encoding="utf-8") == client_methods(), "run `make client-methods`"


def test_options_have_their_types_and_defaults() -> None:
    text = client_methods()
    assert "top_k: int | None = None," in text
    assert 'truncation: Literal["error", "truncate", "window"] = "window",' in text
    assert "async def classify(" in text
    assert "documents: Any," in text
    assert "query: str," in text
    assert "rerank_many" not in text  # a ranking is made of all documents
