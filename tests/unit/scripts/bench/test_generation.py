"""What is said of a model that writes is what its engine did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models

from app.core.errors import InvalidArtefact
from app.runtime import prompts
from scripts.bench.generation import main, open_writer
from tests.support.tiny_continuer import publish_tiny_continuer
from tests.support.tiny_decoder import MAX_LENGTH, publish_tiny_decoder
from tests.support.tiny_model import publish_tiny


@pytest.mark.parametrize("beams", [1, 2])
def test_tokens_a_second_are_told_for_each_number_of_sequences(tmp_path: Path, beams: int) -> None:
    folder, output = publish_tiny_decoder(tmp_path), tmp_path / "rates.json"
    sizes = ["--source-tokens", "99", "--source-ids", "20", "--new-tokens", str(MAX_LENGTH - 1)]
    options = ["--sequences", "1", "3", "--beams", str(beams), "--threads", "1", "--runs", "1", "--output", str(output)]
    assert main(["--model", str(folder), *sizes, *options]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert (report["precision"], report["threads"]) == ("fp32", 1)
    assert list(report["sequences"]) == ["1", "3"]
    assert all(rate > 0 for of_number in report["sequences"].values() for rate in of_number.values())


def test_the_first_token_is_told_with_and_without_a_beginning_that_is_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prompts, "PROMPT_TOKENS", 4)
    folder, output = publish_tiny_continuer(tmp_path), tmp_path / "shared.json"
    options = ["--shared-tokens", "30", "--source-tokens", "3", "--source-ids", "20", "--threads", "1", "--output", str(output)]
    assert main(["--model", str(folder), *options]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert (report["shared_tokens"], report["own_tokens"], report["texts"]) == (30, 3, 3)
    told = report["first_token"]
    assert told["read_again"]["cpu_s"] > told["reused"]["cpu_s"] > 0
    assert main(["--model", str(publish_tiny_decoder(tmp_path)), *options]) == 2
    assert "continues no text" in capsys.readouterr().err


def test_what_a_form_costs_is_told_beside_the_steps_and_between_them(tmp_path: Path) -> None:
    folder, output = publish_tiny_continuer(tmp_path), tmp_path / "forms.json"
    words = ["<pad>", "<s>", "</s>", "<unk>", "\u2581", '"', *"abcdefghijklmnopqr"]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=3))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = ["--source-tokens", "3", "--source-ids", "20", "--new-tokens", "4", "--sequences", "1", "2"]
    options = ["--schema", '{"type": "string", "minLength": 9}', "--threads", "1", "--runs", "1", "--output", str(output)]
    assert main(["--model", str(folder), *sizes, *options]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))["ms_per_step"]
    assert list(report) == ["1", "2"]
    assert all(told[way]["all"] > 0 < told[way]["steps"] for told in report.values() for way in ("beside", "between"))


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtefact, match="reads and does not write"):
        open_writer(publish_tiny(tmp_path), 2)
