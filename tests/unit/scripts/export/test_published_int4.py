"""`hooper models int4`: who may accept what a form loses, and that the service takes it where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.api.protocols.state import DecoderState
from app.core.artefact import open_artefact
from app.main import create_app
from app.settings import Settings
from scripts.export.commands import add
from scripts.export.commands import int4 as int4_command
from scripts.export.seq2seq import int4, int8, loss, steps
from scripts.export.seq2seq.loss import Loss
from tests.support.tiny_causal import save_checkpoint
from tests.support.tiny_writer import TEXTS


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published version that continues texts, and texts beside its repository."""
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    folder = save_checkpoint("llama", tmp_path / "tiny")
    assert add([str(folder), "--models", str(tmp_path / "models"), "--data", str(tmp_path / "texts.txt")]) == 0
    monkeypatch.setattr(int4, "MIN_WEIGHTS", 100)
    monkeypatch.setattr(loss, "MIN_EXPECTED", 10)
    return tmp_path / "models" / "tiny" / "1"


def asked(version: Path, *words: str) -> list[str]:
    models = version.parent.parent
    return ["tiny/1", "--models", str(models), "--data", str(models.parent / "texts.txt"), *words]


async def test_a_loss_is_accepted_by_word_alone_told_everywhere_and_served_where_int4_is_asked_for(
    version: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loss, "share", property(lambda _: 0.0312))
    with monkeypatch.context() as patch:
        patch.setattr(Loss, "share", property(lambda _: -0.01))  # no loss is no word, either
        assert int4_command(asked(version)) == 2
        assert "--accept-loss 0 publishes it" in capsys.readouterr().err
    assert int4_command(asked(version, "--accept-loss", "3.1")) == 2
    refused = capsys.readouterr().err
    assert "the decoder in int4 writes worse than in fp32" in refused
    assert "--accept-loss 4 publishes it nevertheless, for those who ask for int4" in refused
    assert [path.name for path in version.parent.iterdir() if path.is_dir()] == ["1"]
    assert int4_command(asked(version, "--accept-loss", "3.2")) == 0, capsys.readouterr().err
    artefact = open_artefact(version.parent / "2")
    manifest, decoder = artefact.manifest, artefact.manifest.decoder
    assert decoder is not None
    assert decoder.variants == {"int4": "decoder.int4.onnx"}
    parity = manifest.parity["int4"]
    assert (parity.passed, parity.perplexity_loss, parity.accepted_loss) == (False, 0.0312, 0.032)
    card = (artefact.folder / "README.md").read_text(encoding="utf-8")
    assert "## In int4" in card
    assert "The perplexity of these texts changes by +3.1 %." in card
    assert "accepted a perplexity up to 3.2 % higher: `HOOPER_PRECISION=int4` takes it." in card
    golden = json.loads((artefact.folder / "golden.json").read_text(encoding="utf-8"))
    assert any(answer["answer"]["rows"] != answer["answer"]["rows_int4"] for answer in golden)
    (version.parent / "serving.json").unlink()  # the latest serves then
    assert manifest.model_dump()["parity"]["int4"]["perplexity_loss"] == 0.0312  # as /v1/models has it
    auto, asked_for = [await served(version.parent.parent, choice) for choice in ("auto", "int4")]
    assert (auto.precision, asked_for.precision) == ("fp32", "int4")
    told = "in int4, as asked for; perplexity +3.1 % from fp32, which was accepted when it was published"
    assert told in asked_for.device_reason


async def served(models: Path, precision: Any) -> DecoderState:
    """What a service says of the decoder; it compares its golden answers first."""
    app = create_app(Settings(models=models, precision=precision, device="cpu", engine_threads=1))
    async with app.router.lifespan_context(app):
        await app.state.loading
        (deployment,) = app.state.hooper.registry.deployments
        state = DecoderState.of(deployment)
    assert state is not None
    return state


def test_a_form_that_passes_needs_no_word(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "MIN_TOKENS", 10)
    monkeypatch.setattr(steps, "AGREEMENT", 0.5)  # so small a model hardly prefers its own tokens
    assert int4_command(asked(version)) == 0
    parity = open_artefact(version.parent / "2").manifest.parity["int4"]
    assert (parity.passed, parity.accepted_loss) == (True, None)
    assert parity.perplexity_loss is not None
    assert int4_command(["tiny/2", *asked(version)[1:]]) == 2
