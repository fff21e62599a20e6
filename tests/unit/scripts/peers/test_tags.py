"""Entities are compared with those of transformers' pipeline by every strategy, and differences have reasons."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.tasks.registry import environment_tasks
from app.tasks.token_classification.task import TokenClassification
from scripts.peers import tags
from scripts.peers.tags import main
from tests.support.tiny_model import publish_tiny_spec

WORDS = ("a", "films", "film", "was", "very", "good", "bad", ".", "Zoë", "good,bad")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny published model whose tokens are good or bad, and sixty sentences of any words."""
    folder = tmp_path_factory.mktemp("tags")
    model = publish_tiny_spec(folder, environment_tasks()["token-classification"])
    generator = random.Random(7)
    sentences = [generator.choices(WORDS, k=generator.randint(1, 12)) for _ in range(60)]
    lines = ["\n".join(f"{word}\tO" for word in sentence) + "\n" for sentence in [*sentences, ["film"] * 99]]
    (folder / "data.conll").write_text("\n".join(lines), encoding="utf-8")
    return [str(folder / "data.conll"), "--model", str(model), "--output", str(folder / "report.json")]


def report(arguments: Sequence[str]) -> Any:
    return json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))


def test_every_strategy_finds_the_same_entities(arguments: list[str]) -> None:
    assert main(arguments) == 0
    found = report(arguments)
    assert (found["texts"], found["longer_texts"]) == (60, 1)
    assert list(found["strategies"]) == ["none", "simple", "first", "average", "max"]
    for entry in found["strategies"].values():
        assert (entry["same"], entry["differences"]) == (1.0, [])
        assert entry["entities"] > 60
        assert entry["largest_difference_of_scores"] < 1e-5


def test_words_that_are_joined_by_mistake_are_unexplained(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenClassification, "words", lambda self, tokens, num_tokens: [range(num_tokens)])
    assert main(arguments) == 1
    found = report(arguments)["strategies"]
    assert found["first"]["reasons"]["unexplained"] > 0
    assert found["simple"]["same"] == 1.0
    assert "film" not in json.dumps(found)  # no text of the data


def test_a_folder_without_a_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data.conll", "--model", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pieces", "unknown", "text", "begins", "reason"),
    [
        (["go", "##od"], "", "good", {0}, "tie"),  # the words are the same
        (["go", "[UNK]"], "[UNK]", "good", {0}, tags.UNKNOWN),
        (["a", "oe"], "", "a ö", {0, 1}, tags.NORMALIZED),
        (["a", "b"], "", "a b", {0}, tags.UNEXPLAINED),
    ],
)
def test_differences_have_reasons(pieces: list[str], unknown: str, text: str, begins: set[int], reason: str) -> None:
    """Of two pieces, whose labels are tied."""
    middle = 2 if " " not in text else 1
    offsets = [(0, middle), (middle + (" " in text), len(text))]

    class Model:
        continuing_subword_prefix = "##"

    class Backend:
        model = Model()

    class HubTokenizer:
        backend_tokenizer = Backend()
        unk_token_id = pieces.index(unknown) if unknown else -1

        def convert_ids_to_tokens(self, number: int) -> str:
            return pieces[number]

    class Tokens:
        ids = range(2)

        def __init__(self) -> None:
            self.text, self.offsets = text, offsets

        def __len__(self) -> int:
            return 2

    class Words:
        def words(self, tokens: Any, num_tokens: int) -> list[range]:
            return [range(start, start + 1) for start in begins]

    class Reading:
        tokens = Tokens()

    found = tags.difference_reason(HubTokenizer(), Words(), Reading(), np.full((2, 2), 0.5), "first")  # type: ignore[arg-type]
    assert found == reason
