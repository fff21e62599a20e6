"""What tasks that write share: baselines that need no model."""

from __future__ import annotations

from app.tasks.generation import SourceText
from scripts.tasks.translation import SPEC as TASK
from scripts.training.data import Example


def test_the_nearest_source_of_the_training_rows_is_a_baseline() -> None:
    train = [Example(SourceText(text), text.upper(), "a", "a:1") for text in ("a red house", "two dogs run", "the old town")]
    baselines = dict(TASK.baselines(train, [Example(SourceText("three dogs run"), "", "a", "a:1")], {}))
    assert [answer.text for answer in baselines["target of the most similar source"]] == ["TWO DOGS RUN"]
