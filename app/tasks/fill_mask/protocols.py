"""Masks in the words of other protocols."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.fill_mask.schemas import EXAMPLE, MAX_TOP_K, FillResult, Targets
from app.tasks.fill_mask.task import FilledMask, FillOptions, MaskedItem
from app.tasks.protocols import hub_parameters, json_columns, one_text, tensors_example
from app.tasks.schemas import Count
from app.tasks.spec import BodyExample, HuggingFaceCodec, NativeItems, OpenInferenceCodec

NATIVE = NativeItems((str,), one_text(MaskedItem, "the model fills its masks"))


# Hugging Face


class FilledToken(BaseModel):
    """A token in the place of a mask, as the specification has it."""

    score: float = Field(description="Its probability among all tokens.")
    token: int = Field(description="Its number in the vocabulary.")
    token_str: str = Field(description="Its text.")
    sequence: str = Field(
        description="What the tokenizer makes of all tokens with it in the mask's place; of a text with several masks with the"
        " other masks and the special tokens."
    )


def _hub_options(parameters: Any) -> FillOptions:
    top_k = FillOptions().top_k if parameters.top_k is None else parameters.top_k
    if top_k > MAX_TOP_K:
        raise InvalidInput(f"should be less than or equal to {MAX_TOP_K}", "parameters.top_k")
    targets = None if parameters.targets is None else tuple(parameters.targets)
    return FillOptions(top_k=top_k, targets=targets, is_hub=True)


def _filled(mask: FilledMask) -> list[dict[str, Any]]:
    return [{"score": fill.score, "token": fill.id, "token_str": fill.token, "sequence": fill.sequence} for fill in mask.fills]


def _answer(result: Result) -> list[Any]:
    """Of one mask its tokens, of several a list for each, as transformers' pipeline gives them."""
    masks = [_filled(mask) for mask in result.answer.masks]
    return masks[0] if len(masks) == 1 else masks


HUGGING_FACE = HuggingFaceCodec(
    inputs="fill-mask: a text with masks",
    wanted="a text",
    item=lambda value: MaskedItem(value) if isinstance(value, str) else None,
    parameters=hub_parameters(
        "Fill-mask",
        top_k=(Count, f"how many tokens for each mask, at most {MAX_TOP_K}; null: 5"),
        targets=(
            Targets,
            "words that alone may stand in a mask's place; of one of several tokens the first counts; null: any token",
        ),
    ),
    options=_hub_options,
    answer=_answer,
    answers=(list[FilledToken] | list[list[FilledToken]],),
    example=BodyExample("fill", {"inputs": EXAMPLE, "parameters": {"top_k": 3}}),
    for_hub_client=lambda answer, parameters: answer,  # the specification's list is what the clients read
)


# Open Inference Protocol


OPEN_INFERENCE = OpenInferenceCodec(
    outputs={"masks": "BYTES"},
    items=lambda texts: [MaskedItem(text) for text in texts["text"]],
    columns=json_columns("masks", FillResult.of),
    description="Fill-mask: `text` to `masks`, (items,): for each item a JSON list of objects with `start`, `end` and `fills`.",
    example=tensors_example("fill", text=[EXAMPLE]),
)
