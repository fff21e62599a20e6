"""Where each token has an answer, a teacher that reads the same tokens is learnt from; and texts without labels are, too."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.core.errors import InvalidSettings
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem
from app.tasks.token_classification.task import TagItem
from app.tasks.tokenizer import Tokenizer
from scripts.tasks import training_task
from scripts.tasks.extractive_summarization import Target
from scripts.tasks.spec import Prepared
from scripts.training.data import Dataset, Example
from scripts.training.data_loader import Collator
from scripts.training.distillation import open_teacher, read_unlabelled, taught_rows
from scripts.training.objective import Objective
from scripts.training.recipe import recipe_of
from scripts.training.run_folder import fingerprint
from tests.support.tiny_model import tokenizer_json

TEXT = "the good film. was very bad. the plot"
KINDS = {
    "token-classification": (TagItem(TEXT), (), {"labels": ["O", "B-X", "I-X"]}, "TokenClassification"),
    "question-answering": (QuestionItem("good film", TEXT), (), {}, "QuestionAnswering"),
    "summarization": (SummaryItem(TEXT), Target(("the good film.",)), {"usual_words": 3.0}, "TokenClassification"),
}
HEADS = {
    "token-classification": {"id2label": {0: "I-X", 1: "O", 2: "B-X"}},
    "question-answering": {},
    "summarization": {"num_labels": 1},
}


def taught(name: str, save: Any, tmp_path: Path) -> tuple[list[Any], Any, Any]:
    """Two rows, of which the second has no label, with a teacher's answers; the teacher; and the tokenizer."""
    item, target, options, head = KINDS[name]
    folder = save("teacher", "Bert", head, **HEADS[name])
    tokenizer = Tokenizer(tokenizer_json(), 48)
    training, example = training_task(name), Example(item, target, "s", "w")
    blank = replace(example, target=training.unlabelled_target(options))
    rows = taught_rows(str(folder), training, tokenizer, options, ([example], [blank]), tmp_path / "teacher.npy")
    return rows, open_teacher(str(folder), training, options, 48), tokenizer


def loss_of(name: str, rows: Any, logits: torch.Tensor, graph: Any, **recipe: Any) -> float:
    """Of a model that answers these logits. (rows, width, labels)"""
    training, options = training_task(name), KINDS[name][2]
    config = type("Config", (), {"num_labels": logits.shape[-1], "id2label": dict(enumerate(options.get("labels", "x")))})()
    objective = Objective(recipe_of({"data": ["x"], "task": name, "teacher": "t", **recipe}), training, config, rows)
    outputs = {"logits": logits} if name != "question-answering" else {
        "start_logits": logits[..., 0], "end_logits": logits[..., 1]
    }  # fmt: skip
    batch = Collator(training, graph, ())(rows)
    return float(objective(lambda **fed: outputs, batch)[0])


@pytest.mark.parametrize("name", list(KINDS))
def test_each_token_is_taught_what_the_teacher_says_of_it(name: str, save: Any, export: Any, tmp_path: Path) -> None:
    rows, teacher, _ = taught(name, save, tmp_path)
    graph = export("Bert", KINDS[name][3], "token").graph
    ids = torch.tensor([list(rows[0].row.input_ids)])
    with torch.no_grad():
        said = teacher.model(input_ids=ids, token_type_ids=torch.tensor([list(rows[0].row.token_type_ids)]))
    wanted = torch.stack([said[key][0] for key in said], -1) if name == "question-answering" else said["logits"][0]
    if name == "token-classification":
        wanted = wanted[:, [1, 2, 0]]  # the order of the student's labels
    np.testing.assert_allclose(rows[0].teacher, wanted, atol=1e-5)
    assert [row.is_labelled for row in rows] == [True, False]
    logits = torch.from_numpy(np.stack([row.teacher for row in rows]))
    assert loss_of(name, rows, logits, graph, teacher_share=1.0) == pytest.approx(0, abs=1e-6)
    assert loss_of(name, rows, -20 * logits, graph, teacher_share=1.0) > 0.1


@pytest.mark.parametrize("name", list(KINDS))
def test_a_row_without_a_label_is_taught_by_the_teacher_alone(name: str, save: Any, export: Any, tmp_path: Path) -> None:
    rows, _, _ = taught(name, save, tmp_path)
    graph = export("Bert", KINDS[name][3], "token").graph
    logits = torch.from_numpy(np.stack([row.teacher for row in rows]))
    labelled, blank = rows
    only = loss_of(name, [labelled], logits[:1], graph, teacher_share=0.0)
    assert only > 0.01
    assert loss_of(name, [blank], logits[1:], graph, teacher_share=0.0) == pytest.approx(0, abs=1e-6)
    assert loss_of(name, rows, logits, graph, teacher_share=0.0) == pytest.approx(only / 2, rel=1e-4)


def test_a_teacher_that_cuts_texts_otherwise_is_refused(save: Any, tmp_path: Path) -> None:
    item, target, options, head = KINDS["token-classification"]
    folder = save("teacher", "Bert", head, **HEADS["token-classification"])
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["pre_tokenizer"] = None  # then the whole text is one unknown word
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(InvalidSettings, match="the teacher cuts the texts into other tokens than the base model"):
        taught_rows(
            str(folder), training_task("token-classification"), Tokenizer(tokenizer_json(), 48), options,
            ([Example(item, target, "s", "w")], []),
        )  # fmt: skip


def test_a_teacher_without_a_head_for_the_task_is_refused(base_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"was not trained for question-answering: it lacks qa_outputs"):
        open_teacher(str(base_folder), training_task("question-answering"), {}, 48)


def test_a_task_that_learns_from_no_teacher_says_so() -> None:
    with pytest.raises(InvalidSettings, match="a model for text-regression learns from none"):
        taught_rows("t", training_task("text-regression"), Tokenizer(tokenizer_json(), 8), {}, ([], []))


@pytest.mark.parametrize("name", list(KINDS))
def test_what_is_cut_off_a_row_is_cut_off_the_teachers_answer(name: str, save: Any, export: Any, tmp_path: Path) -> None:
    rows, _, _ = taught(name, save, tmp_path)
    limit = rows[0].row.num_tokens - 2
    graph = export("Bert", KINDS[name][3], "token").graph
    numbers = np.arange(rows[0].row.num_tokens, dtype=np.float32)[:, None]
    collator = Collator(training_task(name), graph, [limit])
    batch = collator([replace(rows[0], teacher=numbers)])
    kept = batch["teacher_logits"][0, :, 0].int().tolist()
    assert len(kept) <= limit
    assert batch["input_ids"][0].tolist() == [rows[0].row.input_ids[place] for place in kept]
    plain = training_task(name).crop(rows[0], limit, random.Random(hash((0, 0, *rows[0].row.input_ids))))
    assert batch["input_ids"][0].tolist() == list(plain.row.input_ids)


LABELS = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}


def prepared(*texts: str) -> Prepared:
    """With the first of them held out, and the others trained on."""
    held_out, *train = [Example(ClassificationItem(text), "good", "s", "w") for text in texts]
    return Prepared(Dataset(train, [held_out], []), LABELS)


def unlabelled(tmp_path: Path, lines: list[dict[str, Any]], **values: Any) -> Any:
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = recipe_of({"data": ["x"], "teacher": "t", "teacher_data": [str(tmp_path / "more.jsonl")], **values})
    return recipe, training_task("text-classification"), prepared("Held out.", "A film.")


def test_only_texts_that_are_new_are_answered_and_each_once(tmp_path: Path) -> None:
    lines = [{"text": text, "label": "?"} for text in ("held  out.", "a film.", "A plot.", "a PLOT.", "Good.")]
    examples, (note,) = read_unlabelled(*unlabelled(tmp_path, lines))
    assert [example.item.text for example in examples] == ["a PLOT.", "Good."]
    assert {example.target for example in examples} == {"bad"}
    assert note == "2 texts without labels are answered by the teacher; 3 more are in the data already, or come twice"


def test_texts_may_be_cut_into_sentences(tmp_path: Path) -> None:
    lines = [{"text": "A plot. It was good."}, {"text": "Held out. And more."}]
    recipe, training, data = unlabelled(tmp_path, lines, teacher_sentences=True)
    held_out = [*data.dataset.validation, replace(data.dataset.train[0], item=ClassificationItem("held out. and more."))]
    examples, _ = read_unlabelled(recipe, training, replace(data, dataset=replace(data.dataset, validation=held_out)))
    assert [example.item.text for example in examples] == ["A plot.", "It was good."]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"text": "A film."}], "no text that is not in the data already"),
        ([{"text": ""}, {"text": "A plot."}], r"That is 50.0% of 2 rows"),
        ([{"number": 3}], "no column of the text"),
    ],
)
def test_texts_that_cannot_be_used_are_told(lines: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=said):
        read_unlabelled(*unlabelled(tmp_path, lines))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"teacher_data": ["x"]}, "teacher_data needs a teacher"),
        ({"teacher": "t", "teacher_sentences": True}, "teacher_sentences needs teacher_data"),
    ],
)
def test_keys_that_need_each_other_say_so(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        recipe_of({"data": ["x"], **values})


def test_a_run_goes_on_with_the_same_unlabelled_texts_alone() -> None:
    dataset = prepared("a", "b", "c").dataset
    more = [replace(dataset, unlabelled=dataset.train[:count]) for count in (0, 1, 2)]
    assert fingerprint(more[0]) == fingerprint(dataset)
    assert len({fingerprint(entry) for entry in more}) == 3
