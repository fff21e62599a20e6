"""`hooper models reference`: a published version gets what its held-out items were like, and nothing else of it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.artefact import open_artefact
from app.core.manifest import DriftReference, read_manifest
from scripts import add_reference
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task

ROWS = [("good film", "good"), ("bad", "bad"), ("good good", "good"), ("qqq good", "bad")]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository with `tiny/1`, published before references were measured."""
    sign_again(publish_tiny(tmp_path / "models"), reference={})
    return tmp_path / "models"


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return str(path)


def held_out(folder: Path) -> str:
    return write(folder / "dev.jsonl", *({"text": text, "label": label} for text, label in ROWS))


def add(models: Path, model: str, *options: str) -> int:
    return add_reference.main([model, "--models", str(models), *options])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_the_reference_is_counted_over_the_items_by_the_published_graph(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / "tiny" / "1"
    before, content = read_manifest(folder), files(folder)
    assert add(models, "tiny/1", "--data", held_out(tmp_path)) == 0
    after = open_artefact(folder).manifest
    assert after.reference.num_items == 4
    assert after.reference.tokens_per_item == 3.75
    assert after.reference.unknown_token_share == round(1 / 15, 6)
    assert after.reference.label_shares == {"good": 0.75, "bad": 0.25}
    assert after.reference.confidence is not None
    assert after.model_copy(update={"reference": before.reference}) == before
    assert files(folder) == content
    said = capsys.readouterr().out
    assert "4 rows of dev.jsonl" in said
    assert "accuracy 0.7500" in said
    assert "its card says accuracy 1.0000" in said
    assert [one.name for one in folder.parent.iterdir()] == ["1"]


def test_items_without_labels_and_a_folder_s_path_do_too(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("good film\nbad\n", encoding="utf-8")
    assert add_reference.main([str(models / "tiny" / "1"), "--data", str(data)]) == 0
    assert read_manifest(models / "tiny" / "1").reference.label_shares == {"bad": 0.5, "good": 0.5}
    assert "evaluate" not in capsys.readouterr().out


def test_it_is_the_reference_that_the_service_counts_up_to(models: Path, tmp_path: Path) -> None:
    """The items that `publish_tiny` counted over: the same reference comes of them."""
    published = read_manifest(publish_tiny(tmp_path / "again")).reference
    items = [{"text": one.text} for one in KINDS["text-classification"].items]
    assert add(models, "tiny/1", "--data", write(tmp_path / "golden.jsonl", *items)) == 0
    assert read_manifest(models / "tiny" / "1").reference == published


def test_the_rows_that_a_recipe_held_out_can_be_taken(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.toml"
    rows = ({"text": f"{label * n} film", "label": label} for label in ("good ", "bad ") for n in range(1, 6))
    train = write(tmp_path / "train.jsonl", *({**one, "label": one["label"].strip()} for one in rows))
    recipe.write_text(
        f'name = "tiny"\ndata = ["{train}"]\nvalidation = ["{held_out(tmp_path)}"]\nsplit = 0.8\n', encoding="utf-8"
    )
    assert add(models, "tiny/1", "--recipe", str(recipe)) == 0
    assert read_manifest(models / "tiny" / "1").reference.num_items == 4 + 2
    assert "6 rows that were held out when it was trained" in capsys.readouterr().out


def test_every_task_has_a_reference(tmp_path: Path) -> None:
    publish_tiny_task(tmp_path / "models", "question-answering", "qa")
    publish_tiny_task(tmp_path / "models", "summarization", "summary")
    asked = write(tmp_path / "qa.jsonl", {"question": "Was the film good?", "context": "bad film, good film"})
    documents = write(tmp_path / "summary.jsonl", {"text": "The film was good. The film was bad."})
    for model, data in (("qa/1", asked), ("summary/1", documents)):
        sign_again(tmp_path / "models" / model, reference={})
        assert add(tmp_path / "models", model, "--data", data) == 0
        reference = read_manifest(tmp_path / "models" / model).reference
        assert reference.num_items == 1
        assert reference.confidence is not None
        assert reference.label_shares == {}


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("tiny/2", ["dev.jsonl"], "there is no version tiny/2"),
        ("tiny", ["dev.jsonl"], "there is no version tiny in"),
        ("tiny/1", ["nowhere.jsonl"], "nowhere.jsonl"),
        ("tiny/1", ["empty.txt"], "no row"),
        ("tiny/1", ["others.jsonl"], "label 'angry' is none of the model's"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_changes(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, data: list[str], said: str
) -> None:
    held_out(tmp_path)
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    write(tmp_path / "others.jsonl", {"text": "good", "label": "angry"})
    manifest = (models / "tiny" / "1" / "manifest.json").read_bytes()
    assert add(models, model, "--data", *(str(tmp_path / one) for one in data)) == 2
    assert said in capsys.readouterr().err
    assert (models / "tiny" / "1" / "manifest.json").read_bytes() == manifest
    assert [one.name for one in (models / "tiny").iterdir()] == ["1"]


def test_an_altered_version_is_refused(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"broken")
    assert add(models, "tiny/1", "--data", held_out(tmp_path)) == 2
    assert "differs from the checksum" in capsys.readouterr().err
    assert read_manifest(models / "tiny" / "1").reference == DriftReference()


def test_an_interruption_and_a_crash_say_that_nothing_was_changed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code in ((KeyboardInterrupt(), 130), (ZeroDivisionError(), 1), (ImportError(name="torch"), 2)):

        def stop(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("scripts.export.add_drift_reference.predict", stop)
        assert add(models, "tiny/1", "--data", held_out(tmp_path)) == code
    said = capsys.readouterr().err
    assert said.count("nothing was changed") == 2
    assert "torch is not installed" in said
    assert [one.name for one in (models / "tiny").iterdir()] == ["1"]
