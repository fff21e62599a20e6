"""What a checkpoint calls its outputs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.core.errors import InvalidSettings
from scripts.tasks.heads import checkpoint_labels, named_head

NAMELESS = SimpleNamespace(num_labels=2, id2label={0: "LABEL_0", 1: "LABEL_1"})


def test_the_labels_of_a_checkpoint_are_its_own_unless_somebody_names_them() -> None:
    labels, (note,) = checkpoint_labels(NAMELESS, ())
    assert labels == ["LABEL_0", "LABEL_1"]
    assert "--labels NAME" in note
    assert checkpoint_labels(NAMELESS, ["no", "yes"]) == (["no", "yes"], [])
    with pytest.raises(InvalidSettings, match=r"^2 different labels are needed, not yes, yes$"):
        checkpoint_labels(NAMELESS, ["yes", "yes"])


def test_a_named_head_has_an_output_for_each_label() -> None:
    assert named_head(["no", "yes"]) == {"num_labels": 2, "id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
