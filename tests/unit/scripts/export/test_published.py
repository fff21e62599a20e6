"""A published version is asked as it is served; it gets a variant in a next version, or a drift reference."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from app.core.artefact import open_artefact, write_serving
from app.core.errors import InvalidArtefact, InvalidSettings
from app.core.manifest import DriftReference, describe_file, read_manifest, refuse_unlisted, verify_files
from app.core.types import TaskName
from app.runtime import providers
from app.runtime.providers import Machine, Provider, for_model
from scripts.export import variants
from scripts.export.commands import fp16, int8, measure, reference
from scripts.export.published import find_serving, find_version, open_version, with_version
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task

INTEL = Machine(frozenset({"CPUExecutionProvider"}), True, True, False, False, True, (), 2)


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


@pytest.fixture
def with_texts(tmp_path: Path) -> Path:
    publish_tiny(tmp_path / "models")
    (tmp_path / "texts.txt").write_text("good film\nbad\n", encoding="utf-8")
    return tmp_path / "models"


def add_int8(models: Path, model: str) -> int:
    return int8([model, "--models", str(models), "--data", str(models.parent / "texts.txt")])


def test_a_version_that_is_not_stored_as_int8_is_refused(with_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add_int8(with_texts, "tiny/1") == 2
    assert "is stored as fp32; only models stored as fp16 or int8 have an int8 or int7 variant" in capsys.readouterr().err
    assert [path.name for path in (with_texts / "tiny").iterdir()] == ["1"]


def test_a_graph_without_an_int8_product_is_refused_and_leaves_nothing(
    with_texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_texts / "tiny" / "1"
    graph = read_manifest(folder).graph.model_dump(mode="json") | {"storage": "int8"}
    sign_again(folder, graph=graph)
    assert add_int8(with_texts, "tiny/1") == 2
    assert "has nothing to compute in int8" in capsys.readouterr().err
    assert [path.name for path in (with_texts / "tiny").iterdir()] == ["1"]


def test_a_version_that_is_not_there_is_told(with_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add_int8(with_texts, "tiny/7") == 2
    assert "there is no version tiny/7" in capsys.readouterr().err
    assert find_version("tiny/1", with_texts) == with_texts / "tiny" / "1"


def with_product(folder: Path) -> Path:
    """The version, its logits multiplied by a matrix that is stored as int8 and changes nothing."""
    model = onnx.load(folder / "model.onnx")
    graph = model.graph
    producer = next(node for node in graph.node if "logits" in node.output)
    producer.output[0] = "before"
    num_labels = len(read_manifest(folder).task_options["labels"])
    constants = {
        "matrix": np.diag(np.full(num_labels, 127, np.int8)),
        "matrix_scale": np.full(num_labels, 1 / 127, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.append(helper.make_node("DequantizeLinear", ["matrix", "matrix_scale"], ["identity"], axis=1))
    graph.node.append(helper.make_node("MatMul", ["before", "identity"], ["logits"], "product"))
    onnx.save(model, folder / "model.onnx")
    sign_again(folder, graph=read_manifest(folder).graph.model_dump(mode="json") | {"storage": "int8"})
    return folder


def test_both_variants_of_integers_are_added_and_a_version_that_has_them_is_refused(
    with_texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_product(with_texts / "tiny" / "1")
    assert add_int8(with_texts, "tiny/1") == 0
    after = open_artefact(with_texts / "tiny" / "2").manifest
    assert after.graph.variants == {"int8": "model.int8.onnx", "int7": "model.int7.onnx"}
    assert after.parity["int8"].passed
    assert after.parity["int7"].passed
    assert for_model(Provider("cpu", "fp32", "a processor"), after, ("int7",)).precision == "int7"
    assert add_int8(with_texts, "tiny/2") == 2
    assert "has an int8 and an int7 variant already" in capsys.readouterr().err


def test_of_two_variants_that_one_is_published_which_passes(
    with_texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_product(with_texts / "tiny" / "1")
    failing = replace(variants.INT7_VARIANT, measure=lambda reference, *_: reference.failed_comparison())
    monkeypatch.setattr(variants, "VARIANTS", {**variants.VARIANTS, "int7": failing})
    assert add_int8(with_texts, "tiny/1") == 0
    after = open_artefact(with_texts / "tiny" / "2").manifest
    assert after.graph.variants == {"int8": "model.int8.onnx"}
    assert not after.parity["int7"].passed
    assert not (with_texts / "tiny" / "2" / "model.int7.onnx").exists()
    assert add_int8(with_texts, "tiny/2") == 2  # where the other one is all that is missing, and fails again
    assert "the int7 variant predicts otherwise too often" in capsys.readouterr().err


ITEMS = ("good film", "bad", "the film was very good .", "not good films", "a bad bad film")


@pytest.fixture(params=["packed", "padded"])
def either_layout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    publish_tiny(tmp_path / "models", layout=request.param)
    (tmp_path / "texts.txt").write_text("\n".join(ITEMS), encoding="utf-8")
    return tmp_path / "models"


def add_fp16(models: Path, model: str) -> int:
    return fp16([model, "--models", str(models), "--data", str(models.parent / "texts.txt")])


def test_agreement_in_bf16_is_written_into_the_same_version(either_layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = either_layout / "tiny" / "1"
    before = read_manifest(folder)
    assert measure(["tiny/1", "--models", str(either_layout), "--data", str(either_layout.parent / "texts.txt")]) == 0
    after = open_artefact(folder).manifest  # whose files are what they were
    added = after.parity["bf16"]
    assert added.passed
    assert added.max_abs_error > 0
    assert after == before.model_copy(update={"parity": {**before.parity, "bf16": added}})
    assert sorted(path.name for path in either_layout.joinpath("tiny").iterdir() if path.is_dir()) == ["1"]
    assert for_model(Provider("openvino", "bf16", "a processor"), after, ()).precision == "bf16"
    assert for_model(Provider("openvino", "bf16", "a processor"), before, ()).precision == "fp32"


def test_the_next_version_has_the_fp16_variant_and_what_was_measured(
    either_layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add_fp16(either_layout, "tiny/1") == 0
    before, after = read_manifest(either_layout / "tiny" / "1"), read_manifest(either_layout / "tiny" / "2")
    verify_files(either_layout / "tiny" / "2", after)
    refuse_unlisted(either_layout / "tiny" / "2", after)
    assert after.graph.variants == {"fp16": "model.fp16.onnx"}
    assert after.graph.file_for("fp16") == "model.fp16.onnx"
    assert after.files["model.onnx"] == before.files["model.onnx"]
    assert set(after.files) - set(before.files) == {"model.fp16.onnx"}
    measured = after.parity["fp16"]
    assert (measured.rows, measured.agreement, measured.passed) == (len(ITEMS), 1.0, True)
    assert 0 < measured.max_abs_error < 0.05
    assert after.parity["fp32"] == before.parity["fp32"]
    assert "cpu" not in before.engines  # as of versions that were published before engines were tried
    assert after.engines["cpu"].runs
    assert for_model(Provider("cuda", "fp32", "a GPU"), after, ()).precision == "fp16"
    assert "same prediction as fp32: 100 % (5 rows)" in capsys.readouterr().out


def test_a_version_with_the_variant_gets_no_other(either_layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add_fp16(either_layout, "tiny/1") == 0
    assert add_fp16(either_layout, "tiny/2") == 2
    assert "has an fp16 variant already" in capsys.readouterr().err
    assert not (either_layout / "tiny" / "3").exists()


def test_a_variant_that_leaves_fp16_is_refused_and_nothing_is_published(
    either_layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = either_layout / "tiny" / "1"
    model = onnx.load(folder / "model.onnx")
    weights = max(
        (tensor for tensor in model.graph.initializer if tensor.data_type == 1), key=lambda tensor: int(np.prod(tensor.dims))
    )
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1e5), weights.name))
    onnx.save(model, folder / "model.onnx")
    sign_again(folder)
    assert add_fp16(either_layout, "tiny/1") == 2
    assert "the fp16 variant predicts otherwise too often: agreement 0.0000" in capsys.readouterr().err
    assert [path.name for path in (either_layout / "tiny").iterdir()] == ["1"]


def test_other_variants_of_the_version_are_kept(either_layout: Path) -> None:
    folder = either_layout / "tiny" / "1"
    shutil.copyfile(folder / "model.onnx", folder / "model.int8.onnx")
    manifest = read_manifest(folder)
    graph = manifest.graph.model_copy(update={"variants": {"int8": "model.int8.onnx"}}).model_dump(mode="json")
    entry = describe_file(folder / "model.int8.onnx").model_dump()
    files = {name: file.model_dump() for name, file in manifest.files.items()} | {"model.int8.onnx": entry}
    sign_again(folder, graph=graph, files=files)
    assert add_fp16(either_layout, "tiny/1") == 0
    after = read_manifest(either_layout / "tiny" / "2")
    verify_files(either_layout / "tiny" / "2", after)
    assert after.graph.variants == {"int8": "model.int8.onnx", "fp16": "model.fp16.onnx"}


def test_of_many_items_some_are_drawn_and_the_manifest_says_how_many(
    either_layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(variants, "VARIANTS", {"fp16": replace(variants.FP16_VARIANT, max_rows=3)})
    assert add_fp16(either_layout, "tiny/1") == 0
    assert "3 of them are drawn" in capsys.readouterr().out
    assert read_manifest(either_layout / "tiny" / "2").parity["fp16"].rows == 3


ROWS = [("good film", "good"), ("bad", "bad"), ("good good", "good"), ("qqq good", "bad")]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository with `tiny/1`, published before references were measured."""
    sign_again(publish_tiny(tmp_path / "models"), reference={})
    return tmp_path / "models"


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows), encoding="utf-8")
    return str(path)


def held_out(folder: Path) -> str:
    return write(folder / "dev.jsonl", *({"text": text, "label": label} for text, label in ROWS))


def add_reference(models: Path, model: str, *options: str) -> int:
    return reference([model, "--models", str(models), *options])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_the_reference_is_counted_over_the_items_by_the_published_graph(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / "tiny" / "1"
    before, content = read_manifest(folder), files(folder)
    assert add_reference(models, "tiny/1", "--data", held_out(tmp_path)) == 0
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
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_items_without_labels_and_a_folder_s_path_do_too(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("good film\nbad\n", encoding="utf-8")
    assert reference([str(models / "tiny" / "1"), "--data", str(data)]) == 0
    assert read_manifest(models / "tiny" / "1").reference.label_shares == {"bad": 0.5, "good": 0.5}
    assert "evaluate" not in capsys.readouterr().out


def test_it_is_the_reference_that_the_service_counts_up_to(models: Path, tmp_path: Path) -> None:
    """The items that `publish_tiny` counted over: the same reference comes of them."""
    published = read_manifest(publish_tiny(tmp_path / "again")).reference
    items = [{"text": item.text} for item in KINDS["text-classification"].items]
    assert add_reference(models, "tiny/1", "--data", write(tmp_path / "golden.jsonl", *items)) == 0
    assert read_manifest(models / "tiny" / "1").reference == published


def test_the_rows_that_a_recipe_held_out_can_be_taken(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.toml"
    rows = ({"text": f"{label * n} film", "label": label} for label in ("good ", "bad ") for n in range(1, 6))
    train = write(tmp_path / "train.jsonl", *({**fields, "label": fields["label"].strip()} for fields in rows))
    recipe.write_text(
        f'name = "tiny"\ndata = ["{train}"]\nvalidation = ["{held_out(tmp_path)}"]\nsplit = 0.8\n', encoding="utf-8"
    )
    assert add_reference(models, "tiny/1", "--recipe", str(recipe)) == 0
    assert read_manifest(models / "tiny" / "1").reference.num_items == 4 + 2
    assert "6 rows that were held out when it was trained" in capsys.readouterr().out


def test_every_task_has_a_reference(tmp_path: Path) -> None:
    publish_tiny_task(tmp_path / "models", "question-answering", "qa")
    publish_tiny_task(tmp_path / "models", "summarization", "summary")
    asked = write(tmp_path / "qa.jsonl", {"question": "Was the film good?", "context": "bad film, good film"})
    documents = write(tmp_path / "summary.jsonl", {"text": "The film was good. The film was bad."})
    for model, data in (("qa/1", asked), ("summary/1", documents)):
        sign_again(tmp_path / "models" / model, reference={})
        assert add_reference(tmp_path / "models", model, "--data", data) == 0
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
    assert add_reference(models, model, "--data", *(str(tmp_path / file) for file in data)) == 2
    assert said in capsys.readouterr().err
    assert (models / "tiny" / "1" / "manifest.json").read_bytes() == manifest
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]


def test_an_altered_version_is_refused(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"broken")
    assert add_reference(models, "tiny/1", "--data", held_out(tmp_path)) == 2
    assert "differs from the checksum" in capsys.readouterr().err
    assert read_manifest(models / "tiny" / "1").reference == DriftReference()


def test_an_interruption_and_a_crash_say_that_nothing_was_changed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code in ((KeyboardInterrupt(), 130), (ZeroDivisionError(), 1), (ModuleNotFoundError(name="torch"), 2)):

        def stop(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("scripts.export.published.predict", stop)
        assert add_reference(models, "tiny/1", "--data", held_out(tmp_path)) == code
    said = capsys.readouterr().err
    assert said.count("nothing was changed") == 2
    assert "torch is not installed" in said
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """A repository with two versions of `tiny`, of which the first serves, and a folder that is no model."""
    models = tmp_path / "models"
    publish_tiny(models)
    shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")
    write_serving(models / "tiny", 1, "promoted")
    (tmp_path / "checkpoint").mkdir()
    return models


@pytest.mark.parametrize(
    ("name", "complete"),
    [("tiny", "tiny/1"), ("tiny/2", "tiny/2"), ("auto", "auto"), ("packaged", "packaged"), ("bert-base-uncased", None)],
)
def test_a_start_is_named_with_the_version_that_serves(two_versions: Path, name: str, complete: str | None) -> None:
    assert with_version(name, two_versions) == (complete or name)


def test_a_start_may_be_a_folder_s_path(two_versions: Path, tmp_path: Path) -> None:
    folder = two_versions / "tiny"
    assert find_serving(str(folder), tmp_path) == folder / "1"
    assert with_version(str(folder), tmp_path) == str(folder / "1")
    assert with_version(str(folder / "2"), tmp_path) == str(folder / "2")


def test_a_folder_that_is_no_model_comes_before_a_model_of_that_name(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert find_serving("tiny", two_versions) is None
    assert find_serving("checkpoint", two_versions) is None


def test_a_version_that_is_not_there_is_not_looked_up_on_the_hub(two_versions: Path) -> None:
    with pytest.raises(InvalidSettings, match="there is no version tiny/7 in"):
        with_version("tiny/7", two_versions)
