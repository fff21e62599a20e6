"""Models that write, to train: a checkpoint's, with an encoder or without, two encoders put together, or new ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import Decoder
from scripts.export.published import find_serving
from scripts.export.seq2seq.causal_families import (
    CAUSAL_FAMILIES,
    DEFAULT_CONTEXT,
    causal_family_of,
    causal_refusal,
    num_causal_positions,
    with_soft_caps,
)
from scripts.export.seq2seq.families import family_of
from scripts.export.seq2seq.generation import decoder_fields
from scripts.export.seq2seq.graphs import DECODER, describe_decoder
from scripts.export.seq2seq.tokenizers import writer_tokenizer
from scripts.tasks import training_task, training_tasks
from scripts.tasks.generation.task import GenerationTraining
from scripts.training.data import Example
from scripts.training.pretrained import (
    SERVED,
    BaseModel,
    Start,
    choose_max_tokens,
    first_line,
    longest_of_tokenizer,
    resolve,
)
from scripts.training.recipe import NEW, PACKAGED, Recipe
from scripts.training.seq2seq.new_model import learn_vocabulary, new_model, tokenizer_files
from scripts.training.seq2seq.tokenizer import PairTokenizer

HIDDEN_DROPOUTS = ("dropout", "dropout_rate", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop")
ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")
MAX_TEXTS = 200_000
"""Drawn at random, from which a vocabulary is learnt: more take minutes, and give the same pieces."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.spm",
    "*.model",
    "chat_template*",
)


def find_start(name: str, task: str, models: Path) -> Start:
    """What a training of a model that writes begins with.

    Raises:
        InvalidSettings: there is no such base model, its tokenizer cannot be served, or it is none to train from.
    """
    has_encoder = _has_encoder(task)
    if name == NEW and has_encoder:
        return Start(BaseModel(NEW, NEW), "")
    if name in (NEW, *(() if has_encoder else PACKAGED), Recipe.base_model):
        raise _needs_base(task, has_encoder)
    if find_serving(name, models) is not None:
        raise _is_published(name)
    base = resolve(name)
    writer = writer_tokenizer(base)
    return Start(base, writer.definition, longest_of_tokenizer(writer.original), writer)


def _is_published(name: str) -> InvalidSettings:
    return InvalidSettings(
        f"{name} is a published version, from which no model that writes is trained further; name the checkpoint that it was"
        " made from"
    )


def _has_encoder(task: str) -> bool:
    training = training_task(task)
    return not isinstance(training, GenerationTraining) or training.has_encoder


def _needs_base(task: str, has_encoder: bool) -> InvalidSettings:
    """Nobody said from what to train."""
    if not has_encoder:
        return InvalidSettings(
            f"which model shall a training for {task} begin with? Say --base-model FOLDER_OR_HUB_ID of one that continues"
            f" texts, of these families: {', '.join(CAUSAL_FAMILIES)}"
        )
    return InvalidSettings(
        f"which model shall a training for {task} begin with? Say --base-model FOLDER_OR_HUB_ID of an encoder-decoder model, as"
        " T5, BART or Marian; `packaged` for a pair of MiniLM encoders; or `new` for a small transformer from nothing"
    )


def config_of(base: BaseModel) -> Any:
    """Of transformers.

    Raises:
        InvalidSettings: it cannot be read.
    """
    try:
        return transformers.AutoConfig.from_pretrained(base.location, trust_remote_code=False)
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the base model {base.location} cannot be loaded: {first_line(error)}") from error


def vocabulary_of(recipe: Recipe, examples: Sequence[Example]) -> str:
    """The JSON text of a tokenizer that is learnt from sources and targets."""
    texts = [text for example in examples for text in (recipe.source_prefix + example.item.text, str(example.target))]
    if len(texts) > MAX_TEXTS:
        texts = random.Random(recipe.seed).sample(texts, MAX_TEXTS)
    return learn_vocabulary(texts, recipe.new_vocabulary)


def load(recipe: Recipe, start: Start, definition: str) -> Any:
    """The model that training begins with; new weights are drawn from torch's seed.

    Args:
        recipe: dropout, and sizes of a new model.
        definition: JSON text of the tokenizer.

    Raises:
        InvalidSettings: the base model cannot be loaded, or does not write.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(recipe.seed)
    if start.is_new:
        return new_model(recipe, definition)
    location, config = start.base.location, config_of(start.base)
    if not _has_encoder(recipe.task):
        return _continuing(recipe, location, config)
    if config.model_type in CAUSAL_FAMILIES:
        tasks = " or ".join(name for name in training_tasks() if not _has_encoder(name))
        raise InvalidSettings(f"the base model {location} ({config.model_type}) continues texts: say --task {tasks}")
    try:
        model = (
            _from_pair(recipe, location, config)
            if _is_encoder(config)
            else _loaded(transformers.AutoModelForSeq2SeqLM, recipe, location, config)
        )
    except InvalidSettings:
        raise
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the base model {location} cannot be loaded: {first_line(error)}") from error
    if model.config.decoder_start_token_id is None or model.config.pad_token_id is None:
        raise InvalidSettings(f"the base model {location} does not say with which token a text begins, or which one fills up")
    return model


def make_tokenizer(recipe: Recipe, model: Any, start: Start, definition: str) -> PairTokenizer:
    """The tokenizer, cut to what the model reads and writes.

    Raises:
        InvalidSettings: the recipe asks for more than that.
    """
    original = start.writer.original if start.writer else None
    if not model.config.is_encoder_decoder:
        limit = min(num_causal_positions(model.config), start.max_tokens, SERVED)
        if recipe.max_source_tokens:
            raise InvalidSettings("max_source_tokens is for models with an encoder; of one that continues texts say max_tokens")
        max_tokens = choose_max_tokens(recipe, limit, DEFAULT_CONTEXT)
        decoder = decoder_of(model, original, max_tokens)
        return PairTokenizer(definition, max_tokens, decoder, "", recipe.max_target_tokens)
    config = getattr(model.config, "encoder", None) or model.config
    limit = min(getattr(config, "max_position_embeddings", None) or SERVED, start.max_tokens, SERVED)
    decoder = decoder_of(model, original)
    if recipe.max_target_tokens >= decoder.max_length:
        raise InvalidSettings(
            f"max_target_tokens is {recipe.max_target_tokens}, but the base model writes at most {decoder.max_length - 1}"
        )
    writer = start.writer
    known = (writer.num_known, writer.original.unk_token_id) if writer and writer.num_known else None
    target = writer.target if writer else ""
    lengths = {"max_target_tokens": recipe.max_target_tokens, "max_source_tokens": recipe.max_source_tokens}
    return PairTokenizer(definition, choose_max_tokens(recipe, limit), decoder, target, known=known, **lengths)


def decoder_of(model: Any, original: Any = None, max_length: int = 0) -> Decoder:
    """What the manifest will say of its decoder.

    Args:
        original: transformers' tokenizer; None: it has no ways of its own.
        max_length: tokens of what it reads and writes, without an encoder.

    Raises:
        InvalidSettings: models of its kind cannot be published.
    """
    fields, _ = decoder_fields(model, original)
    family = family_of(model) if model.config.is_encoder_decoder else causal_family_of(model)
    longest = {"max_length": max_length} if max_length else {}
    return describe_decoder(family.weights(model.eval()), {"file": DECODER, **fields, **longest})


def checkpoint_files(start: Start, definition: str) -> Mapping[str, str | Path]:
    """What has to lie beside the finished weights so that transformers has their tokenizer: by name, texts and files."""
    if start.is_new:
        return tokenizer_files(definition)
    folder = Path(start.base.location)
    found: dict[str, str | Path] = {path.name: path for pattern in TOKENIZER_FILES for path in sorted(folder.glob(pattern))}
    return found or {"tokenizer.json": definition}


def _continuing(recipe: Recipe, location: str, config: Any) -> Any:
    """A model without an encoder."""
    if refusal := causal_refusal(config):
        raise InvalidSettings(f"the base model {location} {refusal}")
    try:
        return with_soft_caps(_loaded(transformers.AutoModelForCausalLM, recipe, location, config))
    except InvalidSettings:
        raise
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the base model {location} cannot be loaded: {first_line(error)}") from error


def _is_encoder(config: Any) -> bool:
    return not config.is_encoder_decoder and type(config) not in transformers.AutoModelForSeq2SeqLM._model_mapping


def _loaded(auto_class: Any, recipe: Recipe, location: str, config: Any) -> Any:
    model, report = auto_class.from_pretrained(
        location,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
        attn_implementation=None if torch.cuda.is_available() else "eager",
        **_dropouts(recipe, config),
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InvalidSettings(
            f"the weights of {location} do not fit {type(model).__name__}: {len(missing)} are missing, for example {missing[0]}"
        )
    return model


def _from_pair(recipe: Recipe, location: str, config: Any) -> Any:
    """Two copies of an encoder, of which one learns to write: Rothe, Narayan and Severyn, "Leveraging Pre-trained Checkpoints
    for Sequence Generation Tasks" (2020). What reads the source in the decoder is new."""
    if config.model_type != "bert":
        raise InvalidSettings(
            f"the base model {location} ({config.model_type}) does not write; of encoders, only a pair of BERT's can be put"
            " together to a model that does"
        )
    dropouts = _dropouts(recipe, config)
    both = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in dropouts.items()}
    attention = None if torch.cuda.is_available() else "eager"
    model = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(
        location, location, encoder_attn_implementation=attention, decoder_attn_implementation=attention, **both
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    ids = {
        "decoder_start_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for target in (model.config, model.generation_config):
        for name, value in ids.items():
            setattr(target, name, value)
    model.config.vocab_size = model.config.decoder.vocab_size
    return model


def _dropouts(recipe: Recipe, config: Any) -> dict[str, float]:
    wished = {
        **dict.fromkeys(HIDDEN_DROPOUTS, recipe.hidden_dropout),
        **dict.fromkeys(ATTENTION_DROPOUTS, recipe.attention_dropout),
    }
    return {key: value for key, value in wished.items() if hasattr(config, key)}
