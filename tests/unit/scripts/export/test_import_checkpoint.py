"""A checkpoint of transformers becomes a published model that answers, or a sentence says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest, read_manifest, verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.registry import installed_tasks
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from app.tasks.text_ranking.task import RankingItem, RankingOptions
from app.tasks.tokenizer import Tokenizer
from scripts.export import import_checkpoint as import_module
from scripts.export.commands import add
from scripts.export.import_checkpoint import open_checkpoint
from tests.unit.scripts.conftest import Save, make_model

LABELS = {0: "bad", 1: "so-so", 2: "good"}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def published(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


def scores(folder: Path, text: str, pair: str | None = None) -> dict[str, float]:
    """Ask a published folder as the service does."""
    manifest = published(folder)
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    task = installed_tasks()[manifest.task].build(tokenizer, manifest.task_options)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"), num_threads=1)
    (encoded,) = task.encode([ClassificationItem(text, pair)], ClassificationOptions())
    assert not isinstance(encoded, Exception)
    answer = task.decode(encoded, session.run_rows(encoded.rows), ClassificationOptions())
    return {label.label: label.score for label in answer.labels}


def by_torch(checkpoint: Path, text: str, pair: str | None = None) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint)
    fed = tokenizer(text, pair, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(**{name: fed[name] for name in fed if name != "token_type_ids" or "type_vocab_size" in
                                        model.config.to_dict()}).logits[0]  # fmt: skip
    return logits


def test_a_checkpoint_for_regression_gives_its_number(save: Save, models: Path) -> None:
    checkpoint = save(num_labels=1, problem_type="regression")
    assert add([str(checkpoint)]) == 0
    manifest = published(models / "films" / "1")
    assert (manifest.task, manifest.task_options) == ("text-regression", {"labels": ["score"]})
    (number,) = by_torch(checkpoint, "a very good film").tolist()
    assert scores(models / "films" / "1", "a very good film") == {"score": pytest.approx(number, abs=1e-2)}


@pytest.mark.parametrize(
    "family",
    ["Bert", "Roberta", *(pytest.param(name, marks=pytest.mark.slow) for name in ("DistilBert", "Electra", "Albert", "Llama"))],
)
def test_a_checkpoint_answers_as_torch_does_with_its_own_labels(family: str, save: Save, models: Path) -> None:
    # the tiny vocabulary has its padding at 0: RoBERTa numbers positions by its padding id
    checkpoint = save(family=family, id2label=LABELS, pad_token_id=0)
    assert add([str(checkpoint)]) == 0
    manifest = published(models / "films" / "1")
    assert manifest.task_options == {"labels": list(LABELS.values()), "problem_type": "single_label_classification"}
    assert manifest.engines["cpu"].runs
    # a decoder's classes are those of its last token, which its padding tells
    assert manifest.graph.layout == ("padded" if family == "Llama" else "packed")
    assert manifest.max_tokens == (65 if family == "Roberta" else 64)  # of its 66 positions the first is the padding's
    assert manifest.parity["fp32"].passed
    expected = dict(zip(LABELS.values(), by_torch(checkpoint, "a very good film").softmax(-1).tolist(), strict=True))
    assert scores(models / "films" / "1", "a very good film") == {
        key: pytest.approx(score, abs=1e-3) for key, score in expected.items()
    }


def test_a_pair_is_read_as_torch_reads_it(save: Save, models: Path) -> None:
    checkpoint = save(id2label=LABELS)
    assert add([str(checkpoint)]) == 0
    expected = by_torch(checkpoint, "a film", "very bad").softmax(-1).tolist()
    assert list(dict(sorted(scores(models / "films" / "1", "a film", "very bad").items())).values()) == [
        pytest.approx(expected[list(LABELS.values()).index(label)], abs=1e-3) for label in sorted(LABELS.values())
    ]


def test_several_labels_at_once_and_a_single_one_are_scored_by_sigmoid(save: Save, models: Path) -> None:
    assert add([str(save("several", problem_type="multi_label_classification"))]) == 0
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**_tiny(), num_labels=1))
    folder = save("single")
    model.save_pretrained(folder)
    assert add([str(folder), "--labels", "relevant", "--task", "text-classification"]) == 0
    for name, checkpoint in (("several", folder.parent / "several"), ("single", folder)):
        expected = sorted(by_torch(checkpoint, "a film").sigmoid().tolist())
        assert sorted(scores(models / name / "1", "a film").values()) == [pytest.approx(score, abs=1e-3) for score in expected]


def _tiny() -> dict[str, int]:
    return {"vocab_size": 14, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_a_head_for_questions_is_published_for_questions(save: Save, models: Path) -> None:
    assert add([str(save("asks", head="QuestionAnswering"))]) == 0
    assert published(models / "asks" / "1").task == "question-answering"


def test_without_texts_the_card_says_that_nothing_was_measured(save: Save, models: Path) -> None:
    assert add([str(save(id2label=LABELS)), "--license", "MIT"]) == 0
    folder = models / "films" / "1"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "No figures were measured: no labelled texts were given." in card
    assert published(folder).reference.num_items == 0  # nobody is served the built-in texts
    assert 'license: "mit"' in card
    assert (published(folder).evaluation, published(folder).parity["fp32"].rows > 50) == ({}, True)


def test_labelled_texts_give_figures_and_none_of_them_is_published(save: Save, models: Path, tmp_path: Path) -> None:
    checkpoint = save(id2label=LABELS)
    assert add([str(checkpoint)]) == 0
    texts = [f"a {word} film {number}" for number in range(20) for word in ("good", "bad", "very good")]
    best = [max(found := scores(models / "films" / "1", text), key=found.__getitem__) for text in texts]
    wrong = {label: next(other for other in LABELS.values() if other != label) for label in LABELS.values()}
    given = [label if number % 4 else wrong[label] for number, label in enumerate(best)]
    rows = "\n".join(json.dumps({"text": text, "label": label}) for text, label in zip(texts, given, strict=True))
    (tmp_path / "dev.jsonl").write_text(rows)
    assert add([str(checkpoint), "--data", str(tmp_path / "dev.jsonl")]) == 0
    second = models / "films" / "2"
    assert published(second).evaluation["accuracy"] == pytest.approx(0.75)
    assert published(second).parity["fp32"].rows == 60
    assert "| all | 0.7500 |" in (second / "README.md").read_text(encoding="utf-8")
    for path in second.iterdir():
        assert b"very good film 7" not in path.read_bytes()


def test_numbers_stand_for_the_labels_in_order(save: Save, models: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text("text,label\n" + "".join(f"a film {n},{n % 3}\n" for n in range(9)))
    assert add([str(save(id2label=LABELS)), "--data", str(tmp_path / "dev.csv")]) == 0
    assert json.loads((models / "films" / "1" / "evaluation.json").read_text())["per_class"]["so-so"]["rows"] == 3


def test_texts_without_labels_are_compared_and_give_no_figures(save: Save, models: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a film\n\nvery good\nbad\n")
    assert add([str(save(id2label=LABELS)), "--data", str(tmp_path / "texts.txt")]) == 0
    assert (published(models / "films" / "1").evaluation, published(models / "films" / "1").parity["fp32"].rows) == ({}, 3)


# --- what cannot be served


def without_head(folder: Path) -> None:
    make_model("Bert").bert.save_pretrained(folder)


def pickled(folder: Path) -> None:
    weights = transformers.AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def lying(folder: Path) -> None:
    """The config promises a head, the weights have none."""
    config = (folder / "config.json").read_text()
    without_head(folder)
    (folder / "config.json").write_text(config)


def set_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def nothing(folder: Path) -> None:
    """A sound checkpoint: it is the options that are wrong."""


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (without_head, [], "holds BertModel, which has no head that can be served; train one: hooper train DATA --base-model"),
        (pickled, [], "holds no weights as safetensors; pytorch_model.bin is a pickle, which could run any code"),
        (lying, [], "of the weights of BertForSequenceClassification, for example classifier.bias: it was saved"),
        (set_config(model_type="unheard-of"), [], "cannot be read as a checkpoint of transformers"),
        (set_config(model_type="x", auto_map={"AutoConfig": "evil.Evil"}), [], "cannot be read as a checkpoint"),
        (
            set_config(architectures=["BertForTokenClassification"]),
            ["--task", "summarization"],
            "which is for token-classification, not for summarization",
        ),
        (set_config(architectures=["BertForMultipleChoice"]), [], "BertForMultipleChoice, which has no head"),
        (set_config(architectures=None), [], "does not say what its head is for"),
        (set_config(problem_type="regression"), [], "the checkpoint gives 3 numbers a text; only one can be served"),
        (no_config, [], "cannot be read as a checkpoint of transformers"),
        (nothing, ["--task", "question-answering"], "which is for text-classification, not for question-answering"),
        (nothing, ["--labels", "a", "b"], "3 different labels are needed, not a, b"),
        (nothing, ["--labels", "a", "b", "a"], "3 different labels are needed"),
        (nothing, ["--max-tokens", "65"], "--max-tokens is 65; this model reads between 8 and 64"),
        (nothing, ["--name", "Not a name"], "cannot be a model's name"),
        (nothing, ["--data", "missing.csv"], "missing.csv does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_in_one_sentence(
    spoil: Callable[[Path], None], arguments: list[str], message: str, save: Save, models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    checkpoint = save()
    spoil(checkpoint)
    assert add([str(checkpoint), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert (error.startswith("hooper models add: "), error.count("\n")) == (True, 1)
    assert not models.exists()


def test_labels_that_the_checkpoint_does_not_know_are_named(
    save: Save, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev.csv").write_text("text,label\na film,great\na film,3\n")
    assert add([str(save(id2label=LABELS)), "--data", str(tmp_path / "dev.csv")]) == 2
    error = capsys.readouterr().err
    assert "label 'great' is none of the model's: bad, so-so, good" in error
    assert "label '3' is none" in error
    assert not models.exists()


def test_a_graph_that_differs_from_torch_is_not_published(
    save: Save, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = import_module.torch_reference

    def worse(training: Any, model: Any, *rest: Any) -> Any:
        with torch.no_grad():
            model.classifier.weight.mul_(-1)  # what is asked is no longer what was exported
        return ask(training, model, *rest)

    monkeypatch.setattr(import_module, "torch_reference", worse)
    assert add([str(save())]) == 2
    assert "does not reproduce the torch model" in capsys.readouterr().err
    assert not models.exists()


def test_an_interrupted_run_publishes_nothing(
    save: Save, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*rest: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module, "make_graph", interrupt)
    assert add([str(save())]) == 130
    assert "nothing was published" in capsys.readouterr().err
    assert not models.exists()


def test_token_types_that_a_model_takes_for_words_are_refused_with_a_way_out(
    save: Save, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GPT-2 adds up the words of the ids 0 and 1 where its tokenizer, of transformers' general class, gives token types."""
    checkpoint = save(family="GPT2", id2label=LABELS)
    assert add([str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert "its tokenizer gives token_type_ids, in place of which GPT2ForSequenceClassification adds up words" in error
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    names = {"model_input_names": ["input_ids", "attention_mask"]}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config | names))
    assert add([str(checkpoint)]) == 0
    expected = dict(zip(LABELS.values(), by_torch(checkpoint, "a very good film").softmax(-1).tolist(), strict=True))
    assert scores(models / "films" / "1", "a very good film") == pytest.approx(expected, abs=1e-4)


def test_tokens_that_the_model_has_no_vector_for_are_told(save: Save, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save()
    definition = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["bad"] = len(vocabulary) + 1  # as many tokens as vectors, but one of them has a number beyond
    (checkpoint / "tokenizer.json").write_text(json.dumps(definition))
    assert add([str(checkpoint)]) == 0
    said = capsys.readouterr().out
    assert "the model has no vector for 1 of its tokenizer's tokens ('bad'): a text with one of them is answered by an" in said
    assert "('bad')" in (models / "films" / "1" / "README.md").read_text()


@pytest.mark.parametrize(("positions", "wish", "limit"), [(64, 0, 64), (1024, 0, 512), (1024, 1024, 1024), (1024, 100, 100)])
def test_without_a_wish_it_reads_what_it_can_up_to_512_tokens(positions: int, wish: int, limit: int, save: Any) -> None:
    folder: Path = save(max_position_embeddings=positions)
    assert open_checkpoint(str(folder), max_tokens=wish).max_tokens == limit


def test_more_than_it_reads_is_refused_with_the_numbers(save: Any) -> None:
    with pytest.raises(InvalidSettings, match="--max-tokens is 65; this model reads between 8 and 64"):
        open_checkpoint(str(save()), max_tokens=65)


# --- one output, of which config.json or the card says what it means

CROSS_ENCODER = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}


def by_card(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\npipeline_tag: text-ranking\n---\n# A ranker\n")


@pytest.mark.parametrize(
    ("mark", "arguments", "task", "note"),
    [
        (nothing, [], "text-regression", "for text-regression; say --task text-classification or --task text-ranking"),
        (nothing, ["--task", "text-ranking"], "text-ranking", ""),
        (set_config(**CROSS_ENCODER), [], "text-ranking", "since config.json has sentence_transformers"),
        (set_config(**CROSS_ENCODER), ["--task", "text-regression"], "text-regression", ""),
        (set_config(sbert_ce_default_activation_function="torch.nn.Sigmoid"), [], "text-ranking", "sbert_ce_default"),
        (by_card, [], "text-ranking", "since its card says pipeline_tag: text-ranking"),
    ],
)
def test_one_output_ranks_or_is_a_number_as_its_makers_say(
    mark: Callable[[Path], None], arguments: list[str], task: str, note: str, save: Save
) -> None:
    checkpoint = save(num_labels=1)
    mark(checkpoint)
    opened = open_checkpoint(str(checkpoint), *arguments[1:])
    assert opened.task == task
    taken = [entry for entry in opened.notes if "is taken to be for" in entry]
    assert bool(taken) == bool(note)
    assert not note or note in taken[0]


def test_a_cross_encoder_scores_as_torch_does(save: Save, models: Path) -> None:
    checkpoint = save(num_labels=1)
    set_config(**CROSS_ENCODER)(checkpoint)
    assert add([str(checkpoint), "--storage", "fp32"]) == 0
    manifest = published(models / "films" / "1")
    assert (manifest.task, manifest.task_options) == ("text-ranking", {"labels": ["relevance"]})
    task = installed_tasks()["text-ranking"].build(
        Tokenizer.from_file(models / "films" / "1" / manifest.tokenizer, manifest.max_tokens), manifest.task_options
    )
    session = EncoderEngine(models / "films" / "1" / "model.onnx", manifest.graph, choose_provider("cpu"), num_threads=1)
    items = [RankingItem("good film", text) for text in ("the film was bad", "very good . " * 30)]
    options = RankingOptions("truncate")
    for encoded, item in zip(task.encode(items, options), items, strict=True):
        assert not isinstance(encoded, Exception)
        answer = task.decode(encoded, session.run_rows(encoded.rows), options)
        # as sentence-transformers' CrossEncoder: pairs cut longest first, then the sigmoid of the logit
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint)
        fed = tokenizer(item.query, item.document, return_tensors="pt", truncation="longest_first", max_length=64)
        with torch.no_grad():
            logit = model(**fed).logits[0, 0]
        assert (answer.logit, answer.score) == (
            pytest.approx(float(logit), abs=1e-4),
            pytest.approx(float(torch.sigmoid(logit)), abs=1e-4),
        )
