"""A model from nothing: a shared vocabulary learnt from the rows, and a small transformer whose weights are drawn at random.

Sizes and rates that do well on some ten thousand short pairs are the defaults, `recipe.FROM_NOTHING`. The vocabulary is not
the same each time that it is learnt, since threads add in another order: a run keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Definition
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from app.core.errors import InvalidSettings
from scripts.training.recipe import Recipe

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPECIAL_TOKENS = (PAD, END, UNKNOWN)
FEWEST_TOKENS = 32
"""Of a vocabulary: fewer hold hardly more than letters."""
POSITIONS = 512
"""Tokens that source and target may have."""
ACTIVATION = "swish"
ACTIVATION_DROPOUT = 0.0
INITIAL_DEVIATION = 0.02
"""Of the weights drawn, as Marian's config has it. With 1 / sqrt(width), which keeps the size of what passes through, layers
that norm after adding learn slower: after an epoch of Multi30k the training loss was 4.32 nats with it, 4.07 with this."""


def learn_vocabulary(texts: Sequence[str], num_tokens: int) -> str:
    """The JSON text of a tokenizer with a Unigram vocabulary (Kudo 2018), as sentencepiece has it; one for both languages.

    Args:
        num_tokens: of the vocabulary; fewer where the texts do not hold as many.

    Raises:
        InvalidSettings: the texts are too few to learn from.
    """
    tokenizer = Definition(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=num_tokens, special_tokens=list(SPECIAL_TOKENS), unk_token=UNKNOWN, show_progress=False
    )
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises plain Exception
        raise InvalidSettings(f"no vocabulary can be learnt from the texts: {error}") from error
    if (size := tokenizer.get_vocab_size()) < FEWEST_TOKENS:
        raise InvalidSettings(
            f"the texts give a vocabulary of {size} tokens, at least {FEWEST_TOKENS} are needed; bring more rows, or train a"
            " pretrained model: --base-model PATH_OR_HUB_ID"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return str(tokenizer.to_str())


def new_model(recipe: Recipe, definition: str) -> Any:
    """A Marian model as the recipe sizes it: layers norm after adding, positions are sines, one table embeds the sources'
    tokens, the targets', and gives the logits. Drawn from torch's seed.

    Args:
        recipe: with the sizes.
        definition: of the tokenizer, by `learn_vocabulary`.

    Raises:
        InvalidSettings: the sizes do not fit each other.
    """
    if recipe.new_width % recipe.new_heads or recipe.new_width % 2:
        raise InvalidSettings(
            f"new_width is {recipe.new_width}: it must be even and a multiple of new_heads, which is {recipe.new_heads}"
        )
    ids = {token: number for token in SPECIAL_TOKENS if (number := _token_id(definition, token)) is not None}
    special = {"pad_token_id": ids[PAD], "eos_token_id": ids[END], "decoder_start_token_id": ids[PAD]}
    of_each = {"layers": recipe.new_layers, "ffn_dim": recipe.new_inner, "attention_heads": recipe.new_heads}
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in of_each.items()}
    config = MarianConfig(
        vocab_size=Definition.from_str(definition).get_vocab_size(),
        d_model=recipe.new_width,
        max_position_embeddings=POSITIONS,
        activation_function=ACTIVATION,
        dropout=recipe.hidden_dropout,
        attention_dropout=recipe.attention_dropout,
        activation_dropout=ACTIVATION_DROPOUT,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        forced_eos_token_id=None,
        init_std=INITIAL_DEVIATION,
        **special,
        **sizes,
    )
    config._attn_implementation = None if torch.cuda.is_available() else "eager"
    model = MarianMTModel(config)
    model.generation_config = GenerationConfig(**special, bad_words_ids=[[ids[PAD]]])
    return model


def tokenizer_files(definition: str) -> dict[str, str]:
    """What transformers reads a tokenizer from, by file name: it would take a Marian model's to be sentencepiece's."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": PAD,
        "eos_token": END,
        "unk_token": UNKNOWN,
    }
    return {"tokenizer.json": definition, "tokenizer_config.json": json.dumps(settings, indent=2) + "\n"}


def _token_id(definition: str, token: str) -> int | None:
    number: int | None = Definition.from_str(definition).token_to_id(token)
    return number
