"""The tokens of a completion: as they would be read behind the prompt, and an end."""

from __future__ import annotations

import pytest

from app.core.manifest import Decoder
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_generation import SPEC as TASK
from scripts.tasks.text_generation.conversations import Conversation, ConversationReader
from scripts.tasks.text_generation.task import CompletionReader
from scripts.training.data import Example
from tests.support.writing import byte_level_json

EOS = 1
DECODER = Decoder(
    file="model.onnx", has_encoder=False, num_layers=1, num_heads=1, head_size=8, vocab_size=300, max_length=40,
    eos_token_ids=(EOS,),
)  # fmt: skip
CHAT = "{% for m in messages %}{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}{% endif %}"


def rows(prompt: SourceText, target: str, limit: int = 39, **options: object) -> list[TrainingRow]:
    tokenizer = Tokenizer(byte_level_json(), 40)
    task = TASK.serving_task(tokenizer, options, DECODER)
    assert isinstance(task, ConversationReader)
    encoded = task.encode([prompt], ContinueOptions(truncation="truncate"))
    return list(CompletionReader(task, limit).rows([Example(prompt, target, "a", "a:1")], encoded))


def read(row: TrainingRow) -> tuple[str, str]:
    tokenizer = Tokenizer(byte_level_json(), 40)
    return tokenizer.decode(row.row.input_ids), tokenizer.decode([token for token in row.label if token != EOS])


@pytest.mark.parametrize("target", [" yes", "yes"])
def test_a_completion_is_written_as_it_stands_and_ends(target: str) -> None:
    (row,) = rows(SourceText("is it?"), target)
    assert row.label[-1] == EOS
    assert read(row) == ("is it?", target)


def test_a_prompt_that_ends_with_a_blank_stays_what_the_service_reads() -> None:
    (row,) = rows(SourceText("is it? "), "the")
    assert read(row) == ("is it? ", "the")


def test_what_is_longer_than_asked_for_is_cut_and_does_not_end() -> None:
    (row,) = rows(SourceText("is it?"), "yes yes yes", limit=4)
    assert len(row.label) == 4
    assert EOS not in row.label


def test_a_row_that_does_not_fit_is_left_out() -> None:
    assert rows(SourceText("a" * 20), "b" * 30) == []
    assert rows(SourceText("a" * 60), "b") == []


def test_of_a_conversation_the_end_is_the_templates_own() -> None:
    options = {"chat_template": {"default": CHAT}, "chat_tokens": {}}
    (row,) = rows(Conversation("", (("user", "is it?"),)), "yes", **options)
    assert read(row)[0] == "is it?</s>\n"
    assert row.label.count(EOS) == 1
    assert row.label[-1] == EOS
    assert read(row)[1] == "yes"
