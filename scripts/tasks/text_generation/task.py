"""Text generation offline: models that continue a text, published as they are or trained on prompts and their completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.fields import FieldSpec, column_key
from app.core.types import Row
from app.data import Record
from app.tasks.chat_template import ChatTemplate
from app.tasks.text_generation.spec import SPEC as SERVED
from app.tasks.tokenizer import Tokenizer
from scripts.export.chat_template import chat_options
from scripts.tasks.generation.pairs import SourceTargetColumns
from scripts.tasks.generation.task import from_memory
from scripts.tasks.spec import CheckpointParts, Prepared, TrainingRow, TrainingTask
from scripts.tasks.text2text_generation import TARGET, TextToTextTraining
from scripts.tasks.text_generation.conversations import (
    MESSAGE_COLUMNS,
    AnswerFrame,
    Conversation,
    ConversationReader,
    holds_messages,
    message_column,
    parse_conversation,
    rendered,
)
from scripts.training.columns import LABEL, Columns, TableSample
from scripts.training.data import Dataset, Example, Parse, load
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import encode_all
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.tokenizer import PairTokenizer

CORRECTED = SourceTargetColumns(Columns({"text": "text", LABEL: "target"}), keeps_blanks=True)
"""Of corrections, which are texts whatever the data is."""


class TextGenerationTraining(TextToTextTraining):
    """Satisfies `TrainingTask`. An example's target is what continues its prompt; its figures are those of texts from texts."""

    served = replace(SERVED, task=ConversationReader)
    api_module = "text_generator"
    has_encoder = False
    auto_class = "AutoModelForCausalLM"
    heads: tuple[str, ...] = ("ForCausalLM", "LMHeadModel")
    optional_weights: tuple[str, ...] = ()
    has_names = False
    label_field = FieldSpec((*TARGET.columns, *MESSAGE_COLUMNS), description="text that continues the prompt")

    # data

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """A column of conversations; prompts and completions may be for a model with an encoder as well."""
        cells = [cell for name in table.names if column_key(name) in MESSAGE_COLUMNS for cell in table[name].cells[:1]]
        return 0.9 if any(map(holds_messages, cells)) else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        own = {source: rows for source, rows in records.items() if source not in recipe.from_feedback}
        column = message_column(recipe, own)
        if not column:
            return super().prepare(recipe, records)
        parse, correction = partial(parse_conversation, column=column), partial(CORRECTED.parse, make_item=self._item)
        dataset = load(recipe, records, parse, correction=correction)
        notes = [f"conversations from column {column!r}: the last answer of each is learnt, what was said before is its prompt"]
        return Prepared(dataset, {}, notes, list(check_texts(dataset)), {"text": column, LABEL: column})

    def check_for_base(self, prepared: Prepared) -> None:
        chat = self._chat(prepared.task_options)
        for example in (*prepared.dataset.train, *prepared.dataset.validation):
            if isinstance(example.item, Conversation):
                try:
                    rendered(example.item, chat)
                except HooperError as error:
                    reason = error.reason if isinstance(error, InvalidInput) else error.detail
                    raise InvalidSettings(f"{example.where}: {reason}") from error

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        column = message_column(recipe, records)
        if not column:
            return super().labelled_parser(recipe, records, task_options)
        return partial(parse_conversation, column=column)

    def _columns(self, recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> SourceTargetColumns:
        return replace(super()._columns(recipe, records), keeps_blanks=True)  # what continues a text may begin with one

    def pair_options(self, recipe: Recipe, columns: SourceTargetColumns, dataset: Dataset) -> dict[str, Any]:
        if recipe.source_prefix:
            raise InvalidSettings("source_prefix is for models with an encoder; write it into the prompts")
        return {}

    # model

    def head_refusal(self, config: Any, is_named: bool) -> str:
        from scripts.export.seq2seq.causal_families import (
            causal_refusal,  # here: it needs torch, which judging a published model does without
        )

        return causal_refusal(config)

    def assemble(self, body: Any, parts: CheckpointParts) -> Any:
        from scripts.export.seq2seq.causal_families import with_soft_caps

        return with_soft_caps(body)

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        options = chat_options(tokenizer)
        return options, ["its chat template is published with it: it holds conversations"] if options else []

    def serving_options(self) -> Any:
        """As others, and of a prompt that is too long its end."""
        return replace(super().serving_options(), truncation="truncate")

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """A row for each example whose prompt and completion fit into the model together.

        Raises:
            InvalidSettings: none of them does.
        """
        if not isinstance(tokenizer, PairTokenizer):
            raise TypeError(f"completions are read by a PairTokenizer, not by a {type(tokenizer).__name__}")
        task: ConversationReader = self.serving_task(tokenizer, task_options)
        encoded = list(encode_all(task, self.reading_options(), [example.item for example in examples]))
        rows = list(CompletionReader(task, tokenizer.max_target_tokens).rows(examples, encoded))
        if examples and not rows:
            raise InvalidSettings(
                f"no row fits: prompt and completion may have {tokenizer.decoder.max_length} tokens together; say"
                " --max-tokens N where the base model reads more, or shorten them"
            )
        return rows

    # evaluation

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """What continues the most similar prompt of the training rows."""
        if train:
            yield "completion of the most similar prompt", from_memory(train, examples)

    def _chat(self, task_options: Mapping[str, Any]) -> ChatTemplate | None:
        sources = task_options.get("chat_template")
        return None if sources is None else ChatTemplate(sources, task_options.get("chat_tokens") or {})


SPEC: TrainingTask = TextGenerationTraining()


class CompletionReader:
    """Turns prompts and completions into rows to train on."""

    def __init__(self, task: ConversationReader, max_new_tokens: int) -> None:
        """
        Args:
            task: the production task, which reads the prompts.
            max_new_tokens: of a completion; what is longer is cut, and does not end.
        """
        self._task, self._pieces, self._decoder = task, task.pieces, task.generator.decoder
        self._limit = max_new_tokens
        self._chat = task.chat_template
        self._frame: AnswerFrame | None = None

    def rows(self, examples: Sequence[Example], encoded: Sequence[Any]) -> Iterator[TrainingRow]:
        """Those that prompt and completion fit into the model together.

        Args:
            examples: prompts, and their completions as targets.
            encoded: the prompts, as the production task reads them; cut ones are left out.
        """
        texts = [self._framed(example) for example in examples]
        read = [self._task.read(example.item).text for example in examples]
        together = self._pieces.encode([prompt + text for prompt, text in zip(read, texts, strict=True)])
        alone, prompts = self._pieces.encode(texts), self._pieces.encode(read)
        for entry, both, own, prompt in zip(encoded, together, alone, prompts, strict=True):
            # where a token of both would begin before the border, the service would not have read it
            follows = list(both.ids[: len(prompt.ids)]) == list(prompt.ids)
            label = self._ended(both.ids[len(prompt.ids) :] if follows else own.ids)
            row: Row = entry.rows[0]
            if not entry.truncated and label and row.num_tokens + len(label) <= self._decoder.max_length:
                yield TrainingRow(row, label)

    def _framed(self, example: Example) -> str:
        """The completion with what a chat template writes around it."""
        if not isinstance(example.item, Conversation) or self._chat is None:
            return str(example.target)
        if self._frame is None:
            self._frame = AnswerFrame.of(self._chat)
        return f"{self._frame.before}{example.target}{self._frame.after}"

    def _ended(self, token_ids: Sequence[int]) -> list[int]:
        """Up to the first token that ends a text, or with one put behind."""
        ends = self._decoder.eos_token_ids
        place = next((place for place, token in enumerate(token_ids) if token in ends), None)
        whole = [*token_ids, *ends[:1]] if place is None else token_ids[: place + 1]
        return list(whole[: self._limit])
