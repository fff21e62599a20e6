"""`hooper models add` on checkpoints that write."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer as _Tokenizer

from app.batching.admission import QueueLimit
from app.core.artefact import Artefact, open_artefact
from app.core.types import Row
from app.observability.metrics import Metrics
from app.serving.loader import LoadOptions, load
from app.settings import Settings
from app.tasks.base import Result
from app.tasks.generation import SourceText
from app.tasks.registry import environment_tasks
from app.tasks.sentences import sentences
from app.tasks.tokenizer import Tokenizer
from app.tasks.translation.task import TranslationOptions
from scripts.export.commands import add, fp16
from scripts.export.seq2seq import int8, steps
from scripts.export.seq2seq.import_writer import TARGET_TOKENIZER
from scripts.export.seq2seq.steps import Graphs, open_engine
from tests.support.tiny_model import tokenizer_json
from tests.support.tiny_translators import LANGUAGES, m2m100_checkpoint, marian_checkpoint
from tests.support.tiny_writer import bart_model, save_checkpoint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Few texts: each is written by transformers too."""
    file = tmp_path / "texts.txt"
    file.write_text("The old library burned down.\nIt was very good!\nNo.\n", encoding="utf-8")
    return file


def published(folder: Path, data: Path, *words: str) -> Artefact:
    models = folder.parent / "models"
    assert add([str(folder), "--models", str(models), "--data", str(data), *words]) == 0
    return open_artefact(models / folder.name / "1")


def answers(artefact: Artefact, options: Any = None) -> list[str]:
    """The golden requests, answered by the service's task and engine."""
    manifest, folder = artefact.manifest, artefact.folder
    decoder = manifest.decoder
    assert decoder is not None
    target = Tokenizer.from_file(folder / decoder.tokenizer, 512) if decoder.tokenizer else None
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    spec = environment_tasks()[manifest.task]
    task = spec.build(tokenizer, manifest.task_options, decoder, target)
    engine = open_engine(Graphs(folder / "model.onnx", manifest.graph, folder / decoder.file, decoder), manifest.max_tokens)
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    chosen = options or task.golden_options()
    encoded = task.encode([spec.item(**request["item"]) for request in golden], chosen)
    return [task.decode(entry, engine.generate(entry.rows, task.sampling(chosen)), chosen).text for entry in encoded]


def golden_texts(artefact: Artefact) -> list[str]:
    golden = json.loads((artefact.folder / "golden.json").read_text(encoding="utf-8"))
    return [request["answer"]["text"] for request in golden]


@pytest.mark.parametrize("storage", ["fp32", "int8"])
def test_a_checkpoint_is_published_with_both_graphs_and_answers_its_golden_requests(
    storage: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = published(save_checkpoint("bart", tmp_path / "writer"), data, "--storage", storage)
    manifest = artefact.manifest
    assert manifest.task == "text2text-generation"
    assert manifest.parity["fp32"].passed
    assert golden_texts(artefact) == answers(artefact)
    assert len(set(golden_texts(artefact))) > 1
    said = capsys.readouterr().out
    assert "BartForConditionalGeneration for text2text-generation, sources of up to 48 tokens" in said
    assert "its head is taken to be for" not in said
    card = (artefact.folder / "README.md").read_text(encoding="utf-8")
    assert 'pipeline_tag: "text2text-generation"' in card
    assert "BartForConditionalGeneration, 11,696 weights" in card


def test_a_step_in_int8_is_published_beside_the_other_where_it_passes(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(int8, "write_int8_step", partial(int8.write_int8_step, min_weights=100))
    folder = save_checkpoint("bart", tmp_path / "writer")
    with monkeypatch.context() as patch:
        patch.setattr(int8, "compare_steps", lambda *graphs: steps.compare_steps(*graphs).model_copy(update={"passed": False}))
        failed = published(folder, data).manifest
    assert failed.decoder is not None
    assert (failed.decoder.variants, failed.parity["int8"].passed) == ({}, False)
    assert "it failed, and will not be used" in capsys.readouterr().out
    published(folder, data)
    artefact = open_artefact(tmp_path / "models" / "writer" / "2")
    decoder = artefact.manifest.decoder
    assert decoder is not None
    assert decoder.variants == {"int8": int8.INT8_DECODER}
    assert "| int8 | " in (artefact.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:Recommended")
def test_a_translator_is_known_by_its_family_and_keeps_two_tokenizers(tmp_path: Path, data: Path) -> None:
    folder = marian_checkpoint(tmp_path / "opus")
    artefact = published(folder, data)
    manifest = artefact.manifest
    assert (manifest.task, manifest.task_options) == ("translation", {"source": "en", "target": "de"})
    decoder = manifest.decoder
    assert decoder is not None
    assert decoder.tokenizer == TARGET_TOKENIZER
    pad = decoder.start_token_id
    assert decoder.generation == {
        "max_new_tokens": 39, "num_beams": 4, "bad_words_ids": [[pad]], "forced_eos_token_id": 0
    }  # fmt: skip
    assert golden_texts(artefact) == answers(artefact)
    expected = by_transformers(folder, artefact)
    assert expected.items() <= dict(zip(golden_sources(artefact), golden_texts(artefact), strict=True)).items()
    assert expected


async def test_the_service_loads_it_and_answers_as_it_was_published(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = published(marian_checkpoint(tmp_path / "opus"), data)
    options = LoadOptions.from_settings(Settings(device="cpu", engine_threads=1), QueueLimit(100, 10_000))
    deployment = await load(artefact, options, Metrics())
    try:
        item, asked = SourceText(golden_sources(artefact)[0]), TranslationOptions(num_beams=1, max_new_tokens=20)
        (result,) = (await deployment.predict([item], asked)).results
        assert isinstance(result, Result)
        assert result.answer.text == golden_texts(artefact)[0]
    finally:
        await deployment.aclose(0)
    assert fp16(["opus/1", "--models", str(tmp_path / "models"), "--data", str(data)]) == 2
    assert "opus/1 writes its answers; of such models nothing is measured or changed" in capsys.readouterr().err


def golden_sources(artefact: Artefact) -> list[str]:
    golden = json.loads((artefact.folder / "golden.json").read_text(encoding="utf-8"))
    return [request["item"]["text"] for request in golden]


def by_transformers(folder: Path, artefact: Artefact) -> dict[str, str]:
    """The golden texts of one sentence, which the service does not take apart, through transformers alone."""
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder)
    texts = [text for text in golden_sources(artefact) if len(sentences(text, "en")) == 1]
    inputs = [tokenizer(text, return_tensors="pt") for text in texts]
    outputs = [model.generate(**entry, num_beams=1, max_new_tokens=20)[0] for entry in inputs]
    return dict(zip(texts, tokenizer.batch_decode(outputs, skip_special_tokens=True), strict=True))


def test_a_translator_into_several_languages_reads_which_one_is_wanted(tmp_path: Path, data: Path) -> None:
    artefact = published(marian_checkpoint(tmp_path / "opus", LANGUAGES), data, "--storage", "fp32")
    options = artefact.manifest.task_options
    assert options == {
        "source": "en", "targets": ["deu", "fra"], "language_tokens": {"deu": ">>deu<<", "fra": ">>fra<<"},
        "target_place": "source",
    }  # fmt: skip
    assert golden_texts(artefact) == answers(artefact)


def test_one_between_many_languages_writes_the_wanted_one_first(tmp_path: Path, data: Path) -> None:
    folder = m2m100_checkpoint(tmp_path / "many")
    artefact = published(folder, data)
    options = artefact.manifest.task_options
    assert options["sources"][:3] == options["targets"][:3] == ["af", "am", "ar"]
    assert (options["source_place"], options["target_place"], options["source"]) == ("first", "first_written", "en")
    model = transformers.M2M100ForConditionalGeneration.from_pretrained(folder)
    tokenizer = transformers.M2M100Tokenizer.from_pretrained(folder)
    golden = json.loads((artefact.folder / "golden.json").read_text(encoding="utf-8"))
    target = tokenizer.get_lang_id(options["targets"][-1])
    row = Row(tokenizer(golden[0]["item"]["text"]).input_ids, [])
    ids = torch.tensor([list(row.input_ids)])
    output = model.generate(ids, num_beams=1, max_new_tokens=20, forced_bos_token_id=target)[0].tolist()
    served = Tokenizer.from_file(artefact.folder / "tokenizer.json", 96)
    assert golden_texts(artefact)[0] == served.decode(output, skip_special_tokens=True)


def test_what_cannot_be_published_is_refused_in_a_sentence_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = transformers.ProphetNetConfig(architectures=["ProphetNetForConditionalGeneration"])
    config.save_pretrained(tmp_path)
    assert add([str(tmp_path), "--models", str(tmp_path / "models")]) == 2
    refused = capsys.readouterr().err
    assert "is a model of prophetnet; of models that write, those of t5, mt5," in refused
    assert not (tmp_path / "models").exists()


def test_a_task_is_taken_from_whoever_names_it(tmp_path: Path, data: Path) -> None:
    folder = save_checkpoint("t5", tmp_path / "writer")
    artefact = published(folder, data, "--task", "abstractive-summarization", "--storage", "fp32")
    assert artefact.manifest.task == "abstractive-summarization"
    assert golden_texts(artefact) == answers(artefact)


def test_two_berts_in_one_are_published_with_the_limits_of_each(tmp_path: Path, data: Path) -> None:
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=_Tokenizer.from_str(tokenizer_json()), model_max_length=64)
    shape = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    encoder = transformers.BertConfig(**shape, hidden_size=12, max_position_embeddings=64)
    decoder = transformers.BertConfig(
        **shape, hidden_size=16, max_position_embeddings=40, is_decoder=True, add_cross_attention=True, initializer_range=0.4
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = 2, 3, 0
    model = transformers.EncoderDecoderModel(config)
    model.generation_config.update(decoder_start_token_id=2, eos_token_id=3, pad_token_id=0)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "berts")
    artefact = published(tmp_path / "berts", data)
    assert artefact.manifest.decoder is not None
    assert (artefact.manifest.max_tokens, artefact.manifest.decoder.max_length) == (64, 40)
    assert golden_texts(artefact) == answers(artefact)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_checkpoint("bart", tmp_path / "writer")
    bart_model(60).save_pretrained(folder)
    assert add([str(folder), "--models", str(tmp_path / "models")]) == 2
    assert "the tokenizer of writer knows 70 tokens, its model only 60" in capsys.readouterr().err


def test_a_limit_beyond_the_positions_is_refused(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_checkpoint("bart", tmp_path / "writer")
    assert add([str(folder), "--models", str(tmp_path / "models"), "--data", str(data), "--max-tokens", "49"]) == 2
    assert "--max-tokens is 49; this model reads between 8 and 48" in capsys.readouterr().err
