"""Faithfulness: the order that the model's own weights give loses most, and the reverse of it least."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.manifest import read_manifest
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.attribution import METHODS
from app.tasks.base import Encoded
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from scripts.peers.explanations import BATCH_TOKENS, SHARES, ProbedPassage, faithfulness
from tests.support.tiny_model import publish_tiny, tiny_tokenizer


@pytest.fixture
def probed(tmp_path: Path) -> ProbedPassage:
    """A text whose one good word speaks for its label, and the tiny model that reads it."""
    folder = publish_tiny(tmp_path)
    manifest = read_manifest(folder)
    session = EncoderEngine(folder / "model.onnx", manifest.graph, choose_provider("cpu"), 1)
    task = TextClassification(tiny_tokenizer(), ["bad", "good"])
    item = ClassificationItem("the film was very good . a film was a film")
    (encoded,) = task.encode([item], ClassificationOptions())
    assert isinstance(encoded, Encoded)
    return ProbedPassage(session, task.passage(item, encoded, session.run_rows(encoded.rows), "good"))


def test_every_method_finds_the_word_whose_loss_costs_most(probed: ProbedPassage) -> None:
    reverse = faithfulness(probed, -np.array([word.text == "good" for word in probed.passage.words], float))
    for method in METHODS:
        weights = probed.weights(method, 4096)
        assert probed.passage.words[int(weights.argmax())].text == "good"
        found = faithfulness(probed, weights)
        assert found["comprehensiveness_log_odds"] > reverse["comprehensiveness_log_odds"]
        assert found["sufficiency_log_odds"] < reverse["sufficiency_log_odds"]


def test_what_hiding_the_best_word_costs_is_what_the_model_says_without_it(probed: ProbedPassage) -> None:
    words = probed.passage.words
    weights = np.array([word.text == "good" for word in words], float)
    everybody = np.ones(len(words), bool)
    whole, without = probed.ask([everybody, weights == 0])
    tops = [max(1, int(np.ceil(share * len(words)))) for share in SHARES]
    order = np.argsort(-weights, kind="stable")
    lost = [whole - probed.ask([~np.isin(np.arange(len(words)), order[:top])])[0] for top in tops]
    assert lost[0] == pytest.approx(whole - without)
    assert faithfulness(probed, weights)["comprehensiveness_log_odds"] == pytest.approx(np.mean(lost), abs=1e-3)


def test_what_was_asked_is_counted_and_comes_back_in_order_over_several_batches(probed: ProbedPassage) -> None:
    count = len(probed.passage.words)
    selections = [np.arange(count) < number % (count + 1) for number in range(BATCH_TOKENS // 2)]
    answers = probed.ask(selections)
    assert probed.num_rows == len(selections) == len(answers)
    assert probed.num_tokens > BATCH_TOKENS
    assert answers[5] == pytest.approx(probed.ask([selections[5]])[0], abs=1e-4)
