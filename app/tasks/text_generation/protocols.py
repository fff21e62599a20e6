"""Continued texts in the words of other protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.tasks.hub_generation import TRUNCATIONS, WrittenText, codec, tgi_parameters, written_tensors
from app.tasks.protocols import hub_parameters
from app.tasks.schemas import Flag
from app.tasks.spec import BodyExample
from app.tasks.text2text_generation.schemas import GenerateRequest
from app.tasks.text_generation.task import ContinueOptions

EXAMPLE = "Once upon a time, the film was"
FULL_TEXT = "return_full_text"
PARAMETERS = tgi_parameters("Text generation", own=(FULL_TEXT,))


def _options(values: Mapping[str, Any]) -> ContinueOptions:
    request = GenerateRequest.model_validate({name: value for name, value in values.items() if name != FULL_TEXT})
    return replace(request.options_of(ContinueOptions), return_full_text=bool(values.get(FULL_TEXT)))


HUGGING_FACE = codec(
    family="Text generation",
    inputs="text generation: a text",
    options=_options,
    parameters={
        **PARAMETERS,
        **hub_parameters(
            "Text generation",
            return_full_text=(Flag, "whether the answer begins with the text that was sent; null: it does not"),
        ),
    },
    own=lambda given: {
        "truncation": "truncate" if TRUNCATIONS[given.truncation] == "truncate" else "error",
        FULL_TEXT: given.return_full_text,
    },
    beside=tuple(name for name in PARAMETERS if name != "details"),
    answer=WrittenText.of,
    answers=(WrittenText,),
    example=BodyExample("story", {"inputs": EXAMPLE}),
)

OPEN_INFERENCE = written_tensors(
    "generated",
    "Text generation: `text` to `generated`, what continues it, (items,).",
    "story",
    EXAMPLE,
)
