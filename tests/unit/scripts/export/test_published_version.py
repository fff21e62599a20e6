"""A published version is measured on what would serve it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidArtefact
from app.core.types import TaskName
from app.runtime import providers
from app.runtime.providers import Machine
from scripts.export.published_version import open_version
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task

INTEL = Machine(frozenset({"CPUExecutionProvider"}), True, True, False, False, True, False, 2)


def test_auto_leaves_out_an_engine_that_does_not_run_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish_tiny(tmp_path)
    sign_again(folder, engines={"openvino": {"runs": False, "reason": "no kernel"}})
    monkeypatch.setattr(providers, "detect_machine", lambda: INTEL)
    provider = open_version("tiny", tmp_path, "auto").session.provider
    assert provider.device == "cpu"
    assert "no kernel" in provider.reason


@pytest.mark.parametrize("task", KINDS)
def test_options_that_are_nonsense_are_refused_in_a_sentence_with_the_models_name(tmp_path: Path, task: TaskName) -> None:
    folder = publish_tiny_task(tmp_path, task, "tiny")
    sign_again(folder, task_options={"labels": 2, "temperature": "x", "usual_words": "x"})
    with pytest.raises(InvalidArtefact, match=r"^tiny/1: task_options\."):
        open_version("tiny", tmp_path)
