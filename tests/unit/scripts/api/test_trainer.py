"""The five lines, from a model and a data set to a service that answers, and every way they say no."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest, read_manifest
from app.serving.repository import Repository
from scripts.api import get_dataset, question_answering, summarizer, text_classifier, text_regressor
from scripts.api.trainer import Trainer
from scripts.export.verify import ParityFailed
from scripts.train_and_export import main
from scripts.training import pipeline as pipeline_module
from scripts.training.run_folder import Interrupted
from tests.support.live_service import serving
from tests.unit.scripts.conftest import press_ctrl_c, stop_at, write_news, write_reviews, write_squad

FIVE_LINES = """
from scripts.api import text_classifier, get_dataset
model = text_classifier.get_model("bert-base-uncased")
train, val = get_dataset("imdb", split_ratio=0.8)
trainer = text_classifier.create_trainer(model, train, val)
trainer.fit(epochs=3); loss, accuracy = trainer.evaluate(val); trainer.save("imdb_classifier")
"""
OPTIONS: dict[str, Any] = {"batch_size": 8, "precision": "fp32"}


@dataclass(frozen=True)
class Made:
    """What the five lines left behind: a folder, variables, and what was printed."""

    place: Path
    names: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def made(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The five lines as they stand, where model and data lie in folders of these names."""
    place = tmp_path_factory.mktemp("five-lines")
    shutil.copytree(base_folder, place / "bert-base-uncased")
    for number, line in enumerate(write_reviews(place / "reviews.csv").read_text(encoding="utf-8").splitlines()[1:]):
        text, _, label = line.rpartition(",")
        (place / "imdb" / label).mkdir(parents=True, exist_ok=True)
        (place / "imdb" / label / f"{number}.txt").write_text(text, encoding="utf-8")
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(printed):
        exec(FIVE_LINES, names)
    return Made(place, names, printed.getvalue())


@pytest.fixture
def workplace(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(reviews.parent)
    return reviews.parent


def new_trainer(base_folder: Path, data: Any = "reviews.csv", **options: Any) -> Trainer[text_classifier.Figures]:
    model = text_classifier.get_model(base_folder)
    return text_classifier.create_trainer(model, *get_dataset(data), **{**OPTIONS, **options})


def graph_of(manifest: Manifest) -> str:
    return manifest.files[manifest.graph.file].sha256


def evaluation_of(folder: Path) -> Any:
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    for measured in ("seconds", "tokens_per_s", "peak_memory_bytes"):
        found["training"].pop(measured)
    return found


# the flow


def test_five_lines_make_a_published_model(made: Made) -> None:
    manifest = read_manifest(made.place / "imdb_classifier" / "1")
    assert (manifest.name, manifest.version, manifest.base_model) == ("imdb_classifier", 1, "bert-base-uncased")
    assert manifest.task_options["labels"] == ["negative", "positive"]
    assert manifest.parity["fp32"].passed
    assert manifest.evaluation["rows"] == 12
    assert evaluation_of(made.place / "imdb_classifier" / "1")["training"]["epochs"] == 3
    assert 0 < made.names["loss"] < 2
    assert 0 <= made.names["accuracy"] <= 1
    stages = [line.split()[0] for line in made.printed.splitlines() if not line.startswith(" ")]
    assert stages == [
        "load",
        "trial",
        "fine-tune",
        "evaluate",
        "export",
        "optimize",
        "verify",
        "quantize",
        "verify",
        "baseline",
        "publish",
        "report",
    ]


def test_the_service_serves_what_was_saved_by_the_name_it_was_saved_under(made: Made) -> None:
    with serving(None, options=["--model", "imdb_classifier"], cwd=made.place) as running, running.client() as client:
        answer = client.post("/v1/classify", json={"inputs": "the film was good"}).raise_for_status().json()
    assert answer["model"] == {"name": "imdb_classifier", "version": 1}
    assert {entry["label"] for entry in answer["results"][0]["labels"]} == {"negative", "positive"}


@pytest.mark.slow
def test_the_script_in_the_card_repeats_the_model(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("imdb", "bert-base-uncased"):
        shutil.copytree(made.place / name, name)
    first = made.place / "imdb_classifier" / "1"
    script = evaluation_of(first)["script"]
    assert f"```python\n{script}\n```" in (first / "README.md").read_text(encoding="utf-8")
    exec(script, {})
    second = tmp_path / "imdb_classifier" / "1"
    assert graph_of(read_manifest(first)) == graph_of(read_manifest(second))
    assert evaluation_of(first) == evaluation_of(second)


def test_python_and_the_command_make_the_same_model(workplace: Path, base_folder: Path) -> None:
    trainer = new_trainer(base_folder)
    trainer.fit(epochs=1)
    trainer.save("films", description="Films.")
    options = ["--base-model", str(base_folder), "--epochs", "1", "--batch-size", "8", "--precision", "fp32"]
    assert main(["reviews.csv", *options]) == 0
    ours, theirs = (read_manifest(workplace / folder / "1") for folder in ("films", "models/reviews"))
    assert ours.description == "Films."
    assert graph_of(ours) == graph_of(theirs)
    assert ours.evaluation == theirs.evaluation


def test_a_trainer_says_in_a_line_what_it_is_and_settles_which_rows_are_whose(workplace: Path, base_folder: Path) -> None:
    train, val = get_dataset("reviews.csv")
    model = text_classifier.get_model(base_folder)
    trainer = text_classifier.create_trainer(model, train, val, seed=5, **OPTIONS)
    assert repr(model) == f"<pretrained model {base_folder}>"
    assert repr(trainer).endswith(
        f"for text-classification: {len(train)} rows to train on, {len(val)} held out; not trained yet>"
    )
    assert len(trainer) == len(train)
    seeded = [row["text"] for row in val]
    new_trainer(base_folder)
    text_classifier.create_trainer(model, train, val, seed=6, **OPTIONS)
    assert [row["text"] for row in val] != seeded


@pytest.mark.slow
def test_another_save_is_the_next_version_and_the_latest_is_served(workplace: Path, base_folder: Path) -> None:
    trainer = new_trainer(base_folder)
    trainer.fit(epochs=1)
    assert trainer.save("deep/down/films") == Path("deep/down/films/1")
    assert trainer.save("deep/down/films", storage="fp32", golden=["good"]) == Path("deep/down/films/2")
    for wish in ("deep/down/films", "./deep/down/films", "deep/down/films/2"):
        assert Repository(Path("models")).find(wish).id == "films/2"


def test_texts_in_memory_are_trained_on_and_stay_out_of_what_is_published(workplace: Path, base_folder: Path) -> None:
    texts = [f"a very {('good', 'bad')[index % 2]} film" + " film" * (index // 2) for index in range(40)]
    trainer = new_trainer(base_folder, {"text": texts, "label": [("up", "down")[index % 2] for index in range(40)]})
    trainer.fit(epochs=1)
    folder = trainer.save("films")
    assert "get_dataset(columns)" in evaluation_of(folder)["script"]
    assert not any(text.encode() in path.read_bytes() for text in texts for path in folder.iterdir())


# fit


@pytest.mark.slow
def test_fit_again_goes_on_from_what_the_last_one_ended_with(workplace: Path, base_folder: Path) -> None:
    trainer, val = fitted(base_folder, 3)
    (before, _), untouched = trainer.evaluate(val), new_trainer(base_folder)
    untouched.fit(epochs=1)  # another model takes the run folder meanwhile
    trainer.fit(epochs=3)
    after, accuracy = trainer.evaluate(val)
    assert after < before
    folder = trainer.save("films")
    training = evaluation_of(folder)["training"]
    assert (training["epochs"], training["updates"]) == (6, 36)
    assert read_manifest(folder).base_model == base_folder.name
    assert read_manifest(folder).evaluation["accuracy"] == accuracy
    names: dict[str, Any] = {}
    exec(evaluation_of(folder)["script"], names)
    assert graph_of(read_manifest(Path("films/2"))) == graph_of(read_manifest(folder))


def fitted(base_folder: Path, epochs: float) -> tuple[Trainer[text_classifier.Figures], Any]:
    train, val = get_dataset("reviews.csv")
    model = text_classifier.get_model(base_folder)
    trainer = text_classifier.create_trainer(model, train, val, **OPTIONS, learning_rate=0.01)
    trainer.fit(epochs)
    return trainer, val


@pytest.mark.parametrize("later", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stopped_fit_is_resumed(
    later: bool, workplace: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = new_trainer(base_folder)
    if later:
        trainer.fit(epochs=1)
    with monkeypatch.context() as patched:
        stop_at(4, patched, press_ctrl_c)
        with pytest.raises(Interrupted, match=r"training was stopped; runs/reviews(\.fit2)?/checkpoint-4 is kept"):
            trainer.fit(epochs=1)
    if not later:
        trainer = new_trainer(base_folder)  # as after a kill
    trainer.fit(epochs=1, resume=True)
    assert "resuming from runs/reviews" in capsys.readouterr().out
    training = evaluation_of(trainer.save("films"))["training"]
    assert (training["epochs"], training["updates"], training["resumed_after_updates"]) == ((2, 12, 4) if later else (1, 6, 4))


@pytest.mark.slow
def test_a_fit_may_have_options_of_its_own_which_the_script_repeats(workplace: Path, base_folder: Path) -> None:
    trainer = new_trainer(base_folder)
    trainer.fit(epochs=1, schedule="cosine", class_weights={"positive": 2.0}, lora_rank=2)
    trainer.fit(epochs=1, freeze=1)
    script = evaluation_of(trainer.save("films"))["script"]
    assert "trainer.fit(epochs=1, schedule='cosine', class_weights={'positive': 2.0}, lora_rank=2)\n" in script
    assert "trainer.fit(epochs=1, freeze=1)\n" in script
    exec(script, {})
    assert graph_of(read_manifest(Path("films/1"))) == graph_of(read_manifest(Path("films/2")))


@pytest.mark.parametrize("key", ["seed", "max_tokens", "storage"])
def test_what_is_settled_before_is_no_option_of_fit(key: str, workplace: Path, base_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"fit takes no {key}; it takes epochs, resume, autofit, average_checkpoints"):
        new_trainer(base_folder).fit(epochs=1, **{key: 1})


@pytest.mark.slow
def test_autofit_sets_training_rows_aside_and_never_those_held_out(
    workplace: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = new_trainer(base_folder)
    trainer.autofit(epochs=2)
    assert "autofit: 5 training rows are the validation split" in capsys.readouterr().out
    evaluation = evaluation_of(trainer.save("films"))
    assert evaluation["headline"]["rows"] == 12
    assert evaluation["training"]["autofit"]["rows_set_aside"] == 5
    assert "trainer.fit(epochs=2, autofit=True)\n" in evaluation["script"]


@pytest.mark.slow
def test_a_learning_rate_is_found_before_and_after_a_fit_and_changes_nothing(workplace: Path, base_folder: Path) -> None:
    trainer = new_trainer(base_folder)
    curve = trainer.find_learning_rate(plot="curve.svg", label_smoothing=0.1)
    assert 1e-6 < curve.suggestion < 1
    assert Path("curve.svg").read_text(encoding="utf-8").startswith("<?xml")
    with pytest.raises(InvalidSettings, match="nothing was trained"):
        trainer.save("films")
    with pytest.raises(InvalidSettings, match="must end in one of"):
        trainer.find_learning_rate(plot="curve.txt")
    trainer.fit(epochs=1)
    folder = trainer.save("films")
    again = new_trainer(base_folder)
    again.fit(epochs=1)
    assert graph_of(read_manifest(folder)) == graph_of(read_manifest(again.save("films")))


# evaluate


def test_evaluate_gives_the_figures_of_any_part_and_of_other_data(
    workplace: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, val = fitted(base_folder, 1)
    loss, accuracy = trainer.evaluate(val)
    report = trainer.report(val)
    assert (loss, accuracy) == (report["loss"], report["headline"]["accuracy"])
    assert set(report["per_class"]) == {"negative", "positive"}
    train, _ = get_dataset("reviews.csv")
    with pytest.raises(InvalidSettings, match="this part is of another get_dataset"):
        trainer.evaluate(train)
    capsys.readouterr()
    write_reviews(workplace / "more.csv", 61)  # the first sixty are those of reviews.csv
    both = trainer.report("more.csv")
    assert both["headline"]["rows"] == 61
    assert "48 of them were trained on" in capsys.readouterr().out
    (alone,) = [trainer.report([{"text": "a good film", "label": "positive"}])]
    assert alone["headline"]["rows"] == 1
    with pytest.raises(InvalidSettings, match="label 'so-so' is none of the model's: negative, positive"):
        trainer.evaluate([{"text": "a film", "label": "so-so"}])


def test_rows_that_were_trained_on_can_be_evaluated_too(workplace: Path, base_folder: Path) -> None:
    train, val = get_dataset("reviews.csv", split_ratio=0.5)
    trainer = text_classifier.create_trainer(text_classifier.get_model(base_folder), train, val, **OPTIONS)
    trainer.fit(epochs=1)
    assert trainer.report(train)["headline"]["rows"] == 30
    assert trainer.report(val)["headline"]["rows"] == 30


def test_questions_are_answered_with_loss_exact_match_and_f1(workplace: Path, base_folder: Path) -> None:
    train, val = get_dataset(write_squad(workplace / "squad.json"), split_ratio=0.8)
    model = question_answering.get_model(base_folder)
    trainer = question_answering.create_trainer(model, train, val, **OPTIONS, max_tokens=48)
    trainer.fit(epochs=1)
    loss, exact_match, f1 = trainer.evaluate(val)
    assert loss > 0
    assert 0 <= exact_match <= f1 <= 100
    unanswerable = [{"question": "was it ?", "context": "the film was a film.", "answers": []}]
    assert isnan(trainer.evaluate(unanswerable).f1)
    folder = trainer.save("answers")
    assert Repository(Path("models")).find("answers").manifest.task == "question-answering"
    assert "question_answering.create_trainer(model, train, val, batch_size=8" in evaluation_of(folder)["script"]


@pytest.mark.slow
def test_documents_are_summed_up_with_loss_and_rouge(workplace: Path, base_folder: Path) -> None:
    train, val = get_dataset(write_news(workplace / "news.jsonl"), split_ratio=0.8)
    trainer = summarizer.create_trainer(summarizer.get_model(base_folder), train, val, **OPTIONS)
    trainer.fit(epochs=1)
    loss, rouge1, rouge2, rouge_lsum = trainer.evaluate(val)
    assert loss > 0
    assert all(0 <= entry <= 100 for entry in (rouge1, rouge2, rouge_lsum))
    trainer.save("news")
    assert Repository(Path("models")).find("news").manifest.task == "summarization"


# saying no


def test_nothing_can_be_evaluated_or_saved_before_fit(workplace: Path, base_folder: Path) -> None:
    trainer = new_trainer(base_folder)
    with pytest.raises(InvalidSettings, match="there is nothing to evaluate yet: nothing was trained; call fit first"):
        trainer.evaluate("reviews.csv")
    with pytest.raises(InvalidSettings, match="there is nothing to save yet"):
        trainer.save("films")
    assert sorted(path.name for path in workplace.iterdir()) == ["reviews.csv"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "there is no option 'epoch'; known are: "),
        ({"batch_size": "8"}, "batch_size must be int, not '8'"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"epochs": 3}, "create_trainer takes no epochs: fit takes it"),
        ({"split": 0.5}, "create_trainer takes no split: get_dataset takes it as split_ratio"),
        ({"text_column": "body"}, "has no column 'body'"),
    ],
)
def test_options_are_a_recipes_and_each_has_one_place(
    options: dict[str, Any], said: str, workplace: Path, base_folder: Path
) -> None:
    with pytest.raises(InvalidSettings, match=said):
        new_trainer(base_folder, **options)


def test_the_parts_are_those_of_one_data_set_in_their_order(workplace: Path, base_folder: Path) -> None:
    model = text_classifier.get_model(base_folder)
    train, val = get_dataset("reviews.csv")
    other, _ = get_dataset("reviews.csv")
    for pair in ((val, train), (other, val), (train, train)):
        with pytest.raises(InvalidSettings, match="the two parts of one get_dataset, in its order"):
            text_classifier.create_trainer(model, *pair)
    wrong: Any = "bert-base-uncased"
    with pytest.raises(InvalidSettings, match="the model must come from get_model, not str"):
        text_classifier.create_trainer(wrong, train, val)
    with pytest.raises(InvalidSettings, match="train and val must come from get_dataset, not str and DataPart"):
        text_classifier.create_trainer(model, wrong, val)


def test_a_model_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"the base model folder \./missing does not exist"):
        text_classifier.get_model("./missing")
    with pytest.raises(InvalidSettings, match=r"the tokenizer of .* cannot be loaded"):
        text_classifier.get_model(tmp_path)


def test_what_cannot_be_saved_leaves_nothing_behind(
    workplace: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ParityFailed("the exported fp32 graph does not reproduce the torch model")

    trainer = new_trainer(base_folder)
    trainer.fit(epochs=1)
    with pytest.raises(InvalidSettings, match="'Not A Name' cannot be a model's name"):
        trainer.save("Not A Name")
    with pytest.raises(InvalidSettings, match="save takes no seed; it takes storage, description"):
        trainer.save("films", seed=3)
    monkeypatch.setattr(pipeline_module, "make_graph", refuse)
    with pytest.raises(ParityFailed):
        trainer.save("films")
    assert sorted(path.name for path in workplace.iterdir()) == ["reviews.csv", "runs"]


def test_the_worst_errors_and_a_report_are_there_without_publishing(workplace: Path, base_folder: Path) -> None:
    trainer, val = fitted(base_folder, 1)
    worst = trainer.top_losses(3, "reviews.csv")
    assert len(worst) == 3
    assert all(entry["guessed"] != entry["right"] for entry in worst)
    assert [entry["loss"] for entry in worst] == sorted((entry["loss"] for entry in worst), reverse=True)
    page = trainer.write_report("look/here")
    assert page == Path("look/here.html")
    report = json.loads(Path("look/here.json").read_text(encoding="utf-8"))
    assert report["headline"] == trainer.report(val)["headline"]
    assert all(entry["words"] for entry in report["worst"][:1])
    with pytest.raises(InvalidSettings, match="nothing was trained"):
        new_trainer(base_folder).top_losses()


def test_numbers_are_learnt_with_loss_errors_and_correlations(workplace: Path, base_folder: Path) -> None:
    texts = [f"a very {('good', 'bad')[number % 2]} film {number}" for number in range(40)]
    train, val = get_dataset((texts, [10.0 * (number % 2) for number in range(40)]), split_ratio=0.5)
    trainer = text_regressor.create_trainer(text_regressor.get_model(base_folder), train, val, **OPTIONS)
    trainer.fit(epochs=1)
    figures = trainer.evaluate(val)
    assert figures.rmse >= figures.mae > 0
    assert -1 <= figures.spearman <= 1
    assert figures.loss > 0
    manifest = read_manifest(trainer.save("numbers"))
    assert (manifest.task, manifest.task_options["labels"]) == ("text-regression", ["score"])
    assert trainer.top_losses(2)[0]["loss"] >= trainer.top_losses(2)[1]["loss"]


def test_cross_validation_judges_the_training_part_and_leaves_the_trainer_as_it_is(base_folder: Path, workplace: Path) -> None:
    trainer = new_trainer(base_folder)
    report = trainer.cross_validate(folds=2, epochs=1, page="folds.html", learning_rate=0.001)
    assert report["headline"]["rows"] == len(trainer) == 48
    assert len(report["cross_validation"]["folds"]) == 2
    assert json.loads(Path("folds.json").read_text(encoding="utf-8"))["headline"] == report["headline"]
    assert "not trained yet" in repr(trainer)
    assert list(Path("runs/reviews").iterdir()) == []
    with pytest.raises(InvalidSettings, match="--folds is 1"):
        trainer.cross_validate(folds=1)


@pytest.mark.slow
def test_training_goes_on_from_a_published_model_by_its_name(made: Made, workplace: Path) -> None:
    folder = made.place / "imdb_classifier"
    model = text_classifier.get_model(folder)
    assert model.name == str(folder / "1")
    trainer = text_classifier.create_trainer(model, *get_dataset("reviews.csv"), **OPTIONS)
    trainer.fit(epochs=1)
    evaluation = json.loads((trainer.save("further") / "evaluation.json").read_text(encoding="utf-8"))
    beginning = evaluation["training"]["beginning"]
    assert (beginning["version"], beginning["head_kept"]) == ("imdb_classifier/1", True)
    assert f"text_classifier.get_model({str(folder / '1')!r})" in evaluation["script"]
