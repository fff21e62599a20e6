"""Tiny transformers models with random weights, rows for them, and a base model folder: all offline tests share these."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime import encoder_engine
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.text_classification.task import ClassificationItem
from scripts.export import variants
from scripts.export.export import export_graph
from scripts.export.published import open_version
from scripts.report.build import evaluate_version
from scripts.tasks.spec import Axis, ReportInput, TrainingRow
from scripts.train_and_export import main
from scripts.training import fine_tune
from scripts.training.data import Example
from tests.support.tiny_model import VOCABULARY, publish_tiny, tokenizer_json

LENGTHS = (3, 5, 17, 40, 2, 8, 9, 33)
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DISTIL_SIZE = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
GPT_SIZE = {"n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 2, "eos_token_id": 3}
BART_SIZE = {
    "d_model": 16,
    **{
        f"{part}_{key}": value
        for part in ("encoder", "decoder")
        for key, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    },
}
ROBERTA = {**SIZE, "max_position_embeddings": 66, "type_vocab_size": 1}
SIZES: dict[str, dict[str, Any]] = {
    "Bert": {**SIZE, "max_position_embeddings": 64},
    "Electra": {**SIZE, "max_position_embeddings": 64, "embedding_size": 8},
    "Albert": {**SIZE, "max_position_embeddings": 64, "embedding_size": 8},
    "Roberta": ROBERTA,
    "XLMRoberta": ROBERTA,
    "DistilBert": {**DISTIL_SIZE, "max_position_embeddings": 64},
    "MPNet": {**SIZE, "max_position_embeddings": 66},
    "GPT2": {**GPT_SIZE, "pad_token_id": 0, "n_positions": 64},
    "Llama": {**SIZE, "num_key_value_heads": 1, "max_position_embeddings": 64},
    "XLNet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "pad_token_id": 0},
    "BigBird": {**SIZE, "max_position_embeddings": 64, "sep_token_id": 3, "attention_type": "original_full"},
    "ConvBert": {**SIZE, "max_position_embeddings": 64, "embedding_size": 16},
    "Bart": {**BART_SIZE, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
}


@dataclass(frozen=True)
class Exported:
    """A torch model and the graph made of it."""

    model: Any
    graph: Graph
    file: Path

    def session(self) -> EncoderEngine:
        return EncoderEngine(self.file, self.graph, choose_provider("cpu"), num_threads=1)


MakeModel = Callable[..., Any]
Export = Callable[..., Exported]
Save = Callable[..., Path]
Evaluate = Callable[..., ReportInput]


def make_model(family: str, head: str = "SequenceClassification", **config: Any) -> Any:
    """A tiny model whose logits differ clearly from row to row."""
    torch.manual_seed(1)
    settings = getattr(transformers, f"{family}Config")(
        vocab_size=len(VOCABULARY), **{"num_labels": 2 if head == "QuestionAnswering" else 3, **SIZES[family], **config}
    )
    name = f"{family}For{head}"
    model = getattr(transformers, name if hasattr(transformers, name) else f"{name}Simple")(settings)
    for weights in model.parameters():
        if weights.ndim == 2:
            torch.nn.init.normal_(weights, std=0.5)
    return model.eval()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Models this small only lose time when two threads share them, and most of all on a busy machine."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder_engine, "available_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def fp16_is_opened_here() -> Iterator[None]:
    """And not in a process of its own before, which imports ONNX Runtime again: that costs more than the rest of a tiny
    model's fp16 variant. No model here has one that ends a process; `test_variants.py` shows what becomes of such a model."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(variants, "ends_its_process", lambda file: False)
        yield


@pytest.fixture
def tiny_model() -> MakeModel:
    return make_model


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports a tiny model once per session, whoever asks."""
    made: dict[tuple[str, str, str], Exported] = {}

    def get(family: str, head: str = "SequenceClassification", axis: Axis = "row") -> Exported:
        key = (family, head, axis)
        if key not in made:
            file = tmp_path_factory.mktemp("exported") / "model.onnx"
            model = make_model(family, head)
            made[key] = Exported(model, export_graph(model, axis, file), file)
        return made[key]

    return get


def save_checkpoint(folder: Path, family: str = "Bert", head: str = "SequenceClassification", **config: Any) -> Path:
    make_model(family, head, **config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    tokens = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **tokens)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a tiny checkpoint as transformers does; the texts it reads have ten words."""

    def run(name: str = "films", family: str = "Bert", head: str = "SequenceClassification", **config: Any) -> Path:
        return save_checkpoint(tmp_path / name, family, head, **config)

    return run


@pytest.fixture
def rows() -> list[Row]:
    """Rows of many lengths; the second half of each is of the second sequence."""
    words = random.Random(5)
    return [
        Row(
            [2, *(words.randrange(4, len(VOCABULARY)) for _ in range(length - 2)), 3],
            [0] * (length // 2) + [1] * (length - length // 2),
        )
        for length in LENGTHS
    ]


@pytest.fixture
def marked_rows(rows: list[Row]) -> list[Row]:
    """The same rows with their first and last token marked, and some with a third."""
    return [replace(row, output_positions=(0, *([2] if row.num_tokens > 4 else []), row.num_tokens - 1)) for row in rows]


@pytest.fixture
def row_output() -> Output:
    return Output(name="logits", axis="row")


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, as a hub would hand it out: config, safetensors, tokenizer."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny-bert")


def make_base(folder: Path) -> Path:
    """Write that BERT."""
    make_model("Bert").bert.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    tokens = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep")}
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **tokens).save_pretrained(folder)
    return folder


@pytest.fixture
def sentence_encoder(base_folder: Path, tmp_path: Path) -> Path:
    """That BERT as sentence-transformers hands out what it trained by the mean over the tokens."""
    folder = Path(shutil.copytree(base_folder, tmp_path / "sentence-encoder"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), encoding="utf-8")
    return folder


def write_reviews(path: Path, count: int = 60, extra: Sequence[str] = ()) -> Path:
    """A csv file whose label follows from one word."""
    words = random.Random(3)
    lines = ["text,label"]
    for index in range(count):
        word, label = (("good", "positive"), ("bad", "negative"))[index % 2]
        filler = " ".join(words.choice(("a", "the", "film", "films", "was", "very")) for _ in range(2 + index % 5))
        lines.append(f"{filler} {word} {index},{label}")
    path.write_text("\n".join([*lines, *extra]) + "\n", encoding="utf-8")
    return path


def write_squad(path: Path) -> Path:
    """An article of twenty paragraphs in SQuAD's own nesting."""
    paragraphs = []
    for number in range(20):
        context = f"the film was {('good', 'bad')[number % 2]} and very very good films was not the film {number}"
        answer = {"text": "very good", "answer_start": context.index("very good")}
        questions = [{"id": f"{number}/{i}", "question": f"was film {i} good ?", "answers": [answer]} for i in range(3)]
        paragraphs.append({"context": context, "qas": questions})
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "films", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def write_news(path: Path) -> Path:
    """Thirty documents of four sentences; the third sums them up."""
    lines = []
    for number in range(30):
        third = f"Very good films {number}."
        text = f"The film {number} was a film. Not the film. {third} The bad film was not very bad."
        lines.append(json.dumps({"text": text, "summary": third}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def stop_at(update: int, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    """Have something happen at the end of an update."""
    progress = fine_tune.TrainingProgress

    class Stopping(progress):  # type: ignore[misc, valid-type]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == update:
                how()

    monkeypatch.setattr(fine_tune, "TrainingProgress", Stopping)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "reviews.csv")


NUM_ROWS = 40


@pytest.fixture
def training_rows() -> list[TrainingRow]:
    """Rows of many lengths whose label is whether `good` or `bad` stands in them."""
    words = random.Random(2)
    rows = []
    for index in range(NUM_ROWS):
        word = VOCABULARY["good" if index % 2 else "bad"]
        ids = [2, word, *(words.randrange(4, 11) for _ in range(index % 9)), 3]
        rows.append(TrainingRow(Row(ids, [0] * len(ids)), index % 2))
    return rows


@pytest.fixture
def evaluate_tiny(tmp_path: Path) -> Evaluate:
    """Has the tiny classifier answer texts, whose first words decide: "bad" is the first label, "good" the last."""

    def run(pairs: Sequence[tuple[str, Any]], labels: Sequence[str] = ("bad", "good"), **options: Any) -> ReportInput:
        publish_tiny(tmp_path, labels=labels, **options)
        examples = [
            Example(ClassificationItem(text), target, "a.csv", f"a.csv:{n}") for n, (text, target) in enumerate(pairs, 2)
        ]
        return evaluate_version(open_version("tiny", tmp_path), examples, ["2 labels"])

    return run


Train = Callable[..., int]
"""Runs `hooper train` with these options; its exit code."""


@pytest.fixture
def train(reviews: Path, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs the command on sixty reviews in an empty folder: a few seconds of training."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, data: str = reviews.name) -> int:
        return main([*([data] if data else []), *fast_options(base_folder), *arguments])

    return run


def fast_options(base_folder: Path) -> list[str]:
    return ["--base-model", str(base_folder), "--epochs", "1", "--batch-size", "8", "--precision", "fp32"]
