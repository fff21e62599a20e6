"""Translation offline: columns named by languages, where checkpoints put the languages, BLEU and chrF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.tasks.sentences import LANGUAGE, sentences
from app.tasks.tokenizer import Tokenizer
from app.tasks.translation.languages import base_of, name_of, same_language
from app.tasks.translation.spec import SPEC as SERVED
from scripts.tasks.generation.metrics import (
    TranslationMetrics,
    bleu,
    bleu_interval,
    chrf,
    chrf_interval,
    mean_interval,
    row_chrf,
)
from scripts.tasks.generation.pairs import TRANSLATIONS, PairText, SourceTargetColumns, language_columns
from scripts.tasks.generation.task import GenerationTraining, RowMetrics, language_of, specific_params
from scripts.tasks.spec import Prepared, TrainingRow, TrainingTask
from scripts.training.columns import TableSample
from scripts.training.data import Dataset, Example
from scripts.training.recipe import Recipe

if TYPE_CHECKING:  # they import torch, which judging a published graph does without
    from scripts.training.pretrained import Start

SOURCE = FieldSpec(("source", "src", "source text", "text", "sentence"))
TARGET = FieldSpec(("target", "tgt", "trg", "translation", "target text", "reference"), description="translation")
MOSTLY = 0.5
SAMPLED = 200
CODES: Mapping[str, str] = {
    "MarianTokenizer": r">>(.+)<<",
    "M2M100Tokenizer": r"__(\w+)__",
    "NllbTokenizer": r"([a-z]{3}_[A-Z][a-z]{3})",
    "MBartTokenizer": r"([a-z]{2}_[A-Z]{2})",
    "MBart50Tokenizer": r"([a-z]{2}_[A-Z]{2})",
}
"""Of each tokenizer, the tokens that stand for languages, and the code in them."""
PREFIXED = re.compile(r"translation_([a-z]+)_to_([a-z]+)")
MAX_NAMED = 6


class TranslationTraining(GenerationTraining):
    """Satisfies `TrainingTask`."""

    api_module = "translator"
    metrics_type = TranslationMetrics
    served = SERVED
    fields: Mapping[str, FieldSpec] = {"text": SOURCE}
    label_field = TARGET
    is_translation = True
    has_names = False
    length_metric = "chrF"
    primary_metric = "mean_chrf"

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """Columns for two languages."""
        if TRANSLATIONS in table.names and any(isinstance(cell, Mapping) for cell in table[TRANSLATIONS].cells):
            return 0.95
        found = language_columns(table)
        return 0.95 if len(found) == 2 and all(table[name].is_free_text for name in found) else 0.0

    def head_sign(self, config: Any, pipeline_tag: str) -> str:
        if pipeline_tag == "translation":
            return "its card says that it translates"
        if config.model_type in ("marian", "m2m_100"):
            return f"models of {config.model_type} translate"
        return "its tokenizer knows languages" if config.model_type == "mbart" else ""

    def is_unlikely_head(self, config: Any) -> bool:
        return True

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """The languages, and where their tokens stand; see `Translation` for what each option means."""
        name = type(tokenizer).__name__.removesuffix("Fast")
        if name not in CODES:
            return self._prefixed(config)
        tokens = _language_tokens(tokenizer, CODES[name])
        if name == "MarianTokenizer":
            return self._marian(tokenizer, tokens)
        places = _places(name, tokenizer)
        options = {"sources": [*tokens], "targets": [*tokens], "language_tokens": tokens, **places}
        usual = _usual_target(config, tokenizer, tokens)
        if usual:
            options["target"] = usual
        source = _told(tokenizer, "src_lang", tokens)
        if source:
            options["source"] = source
        notes = [f"it knows {len(tokens)} languages: {_named([*tokens])}"]
        if usual:
            notes.append(f"a request that names no target gets {name_of(usual)} ({usual})")
        return options, notes

    def _marian(self, tokenizer: Any, tokens: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
        options = {name: code for name in ("source", "target") if (code := getattr(tokenizer, f"{name}_lang", None))}
        if not tokens:
            return options, []
        options.pop("target", None)  # of all that it knows, none is more usual
        options |= {"targets": [*tokens], "language_tokens": tokens, "target_place": "source"}
        return options, [f"it translates into {len(tokens)} languages: {_named([*tokens])}"]

    def _prefixed(self, config: Any) -> tuple[dict[str, Any], list[str]]:
        """As T5 says it: a sentence before the text."""
        prefixes = {
            f"{pair[1]} {pair[2]}": params["prefix"]
            for name, params in specific_params(config).items()
            if (pair := PREFIXED.fullmatch(name)) and params.get("prefix")
        }
        if not prefixes:
            return {}, ["which languages it is for is not known: requests cannot name any"]
        sources, targets = (list(dict.fromkeys(pair.split()[place] for pair in prefixes)) for place in (0, 1))
        return {"sources": sources, "targets": targets, "prefixes": prefixes}, []

    def pair_options(self, recipe: Recipe, columns: SourceTargetColumns, dataset: Dataset) -> dict[str, Any]:
        source, target = columns.languages
        languages = {"source": source, "target": target}
        prefixes = {f"{source} {target}": recipe.source_prefix} if recipe.source_prefix else {}
        return {
            **{name: code for name, code in languages.items() if code},
            **({"prefixes": prefixes} if prefixes else {}),
            "by_sentence": _are_sentences(dataset, source),
        }

    def base_options(self, start: Start, config: Any, task_options: Mapping[str, Any]) -> dict[str, Any]:
        own, _ = self.writer_options(config, start.writer.original) if start.writer else ({}, [])
        options = {**own, **task_options}
        for side in ("source", "target"):
            code, known = str(task_options.get(side, "")), own.get(f"{side}s", ())
            if not code or not known or "prefixes" in task_options:
                continue
            same = same_language(code, known)
            if same is None:
                raise InvalidSettings(
                    f"the base model does not know {name_of(code)} ({code}); it knows {', '.join(known)};"
                    f" --{side}-language CODE says that the column is in another language"
                )
            options[side] = same
        if "prefixes" in task_options:  # those of other pairs are none of this model's any more
            options = {name: value for name, value in options.items() if name not in ("sources", "targets")}
        return options

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """As of any task; corrections of other pairs of languages are read and written in theirs.

        Raises:
            InvalidSettings: the model does not know them.
        """
        of_pair: dict[tuple[str, str], list[Example]] = {}
        for example in examples:
            of_pair.setdefault(_pair_of(example, task_options), []).append(example)
        rows: list[TrainingRow] = []
        for (source, target), alike in of_pair.items():
            options = {**task_options, "source": source, "target": target} if source else task_options
            rows += super().training_rows(alike, tokenizer, options)
        return rows

    def check_for_base(self, prepared: Prepared) -> None:
        for example in prepared.dataset.train:
            _pair_of(example, prepared.task_options)

    def first_labels(self, task: Any, task_options: Mapping[str, Any]) -> Sequence[int]:
        """The token of the target's language, where that is written first."""
        forced = task.sampling(self.serving_options()).forced_bos_token_id
        return () if forced is None or task_options.get("target_place") != "first_written" else (forced,)

    def training_options(self, task_options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**task_options, "by_sentence": False}

    def reading_options(self) -> Any:
        return self.serving_options()

    def measure(
        self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any], with_intervals: bool
    ) -> RowMetrics:
        language, rows = language_of(task_options), row_chrf(texts, references)
        headline = {"bleu": bleu(texts, references, language), "chrf": chrf(texts, references), "mean_chrf": rows.mean()}
        if not with_intervals:
            return RowMetrics(headline, {})
        intervals = {
            "bleu": bleu_interval(texts, references, language),
            "chrf": chrf_interval(texts, references),
            "mean_chrf": mean_interval(rows),
        }
        return RowMetrics(headline, intervals)

    def text_scores(self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any]) -> np.ndarray:
        return row_chrf(texts, references)

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"bleu": "BLEU", "chrf": "chrF", "mean_chrf": "mean chrF"}

    def hub_metrics(self) -> list[str]:
        return ["sacrebleu", "chrf"]


SPEC: TrainingTask = TranslationTraining()


def _pair_of(example: Example, task_options: Mapping[str, Any]) -> tuple[str, str]:
    """The model's codes for the languages of an example that says itself which they are; empty: it does not.

    Raises:
        InvalidSettings: the model does not know them.
    """
    if not isinstance(example.item, PairText):
        return "", ""
    codes = []
    for code, side in ((example.item.source, "source"), (example.item.target, "target")):
        own = same_language(code, task_options.get(f"{side}s", ()))
        if own is None:
            raise InvalidSettings(
                f"{example.where} is a correction from {name_of(example.item.source)} into {name_of(example.item.target)}, and"
                f" the model that is trained does not know {name_of(code)} ({code}); `hooper feedback export` writes the"
                " corrections to a file, from which it can be taken out"
            )
        codes.append(own)
    return codes[0], codes[1]


def _are_sentences(dataset: Dataset, source: str) -> bool:
    """Whether most of the sources are one sentence, so that the service shall translate sentence by sentence."""
    sample = dataset.train[:: max(1, len(dataset.train) // SAMPLED)]
    language = base_of(source) or LANGUAGE
    single = [len(sentences(example.item.text, language)) <= 1 for example in sample]
    return sum(single) >= MOSTLY * len(single)


def _language_tokens(tokenizer: Any, pattern: str) -> dict[str, str]:
    """Code to token, by the token's id."""
    known = getattr(tokenizer, "lang_token_to_id", None) or tokenizer.get_vocab()  # M2M100's are in no vocabulary
    vocabulary = sorted(known.items(), key=lambda entry: entry[1])
    pairs = ((re.fullmatch(pattern, token), token) for token, _ in vocabulary)
    return {match[1]: token for match, token in pairs if match}


def _places(name: str, tokenizer: Any) -> dict[str, str]:
    if name == "MBartTokenizer":
        return {"source_place": "last", "target_place": "start"}
    is_old = name == "NllbTokenizer" and getattr(tokenizer, "legacy_behaviour", False)
    return {"source_place": "last" if is_old else "first", "target_place": "first_written"}


def _usual_target(config: Any, tokenizer: Any, tokens: Mapping[str, str]) -> str:
    """What the checkpoint starts with or writes first where nothing is said, as those for one pair do; else nothing."""
    codes = {tokenizer.convert_tokens_to_ids(token): code for code, token in tokens.items()}
    first = (getattr(config, "forced_bos_token_id", None), getattr(config, "decoder_start_token_id", None))
    found = next((codes[number] for number in first if number in codes), "")
    return found or _told(tokenizer, "tgt_lang", tokens)


def _told(tokenizer: Any, name: str, tokens: Mapping[str, str]) -> str:
    """A language that tokenizer_config.json names: transformers itself takes one where it names none."""
    code = tokenizer.init_kwargs.get(name)
    return code if code in tokens else ""


def _named(codes: list[str]) -> str:
    return ", ".join(codes[:MAX_NAMED]) + (", …" if len(codes) > MAX_NAMED else "")
