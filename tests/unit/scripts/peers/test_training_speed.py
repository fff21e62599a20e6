"""The training benchmark compares ways that all learn from the same texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SetupError
from scripts.peers import training_speed as module


def test_the_report_holds_the_median_of_each_way_and_their_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"hooper bf16": [100, 300, 250], "hooper fp32": [100, 100, 90], "trainer fp32": [60, 50, 40]}

    def measured(way: str, *_: Any) -> dict[str, float]:
        return {"tokens_per_s": rates[way].pop(0), "seconds": 1.0, "padding_share": 0.02}

    monkeypatch.setattr(module, "rate_in_subprocess", measured)
    assert module.main(["--output", str(tmp_path / "new" / "training.json")]) == 0
    report = json.loads((tmp_path / "new" / "training.json").read_text(encoding="utf-8"))
    assert (report["bf16_to_fp32"], report["bf16_to_trainer_fp32"]) == (2.5, 5.0)
    assert report["ways"]["hooper fp32"]["tokens_per_s"] == 100
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize("way", ["hooper fp32", "trainer fp32"])
def test_a_way_trains_on_the_texts_and_tells_its_rate(way: str, base_folder: Path) -> None:
    found = module.training_rate(way, 40, str(base_folder))
    assert found["tokens_per_s"] > 0
    assert 0 < found["padding_share"] < 0.8


@pytest.mark.slow
def test_a_way_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="hooper bf16 failed: training_speed: the base model folder"):
        module.rate_in_subprocess("hooper bf16", 40, str(tmp_path / "missing"))
