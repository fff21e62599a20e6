"""Texts from texts in the words of other protocols."""

from __future__ import annotations

from app.tasks.hub_generation import TRUNCATIONS, WrittenText, codec, pipeline_parameters, tgi_parameters, written_tensors
from app.tasks.spec import BodyExample
from app.tasks.text2text_generation.schemas import EXAMPLE, GenerateRequest

BESIDE = pipeline_parameters("Text to text") | tgi_parameters("Text to text")

HUGGING_FACE = codec(
    family="Text to text",
    inputs="text to text: a text",
    options=lambda values: GenerateRequest.model_validate(values).options(),
    parameters=BESIDE,
    own=lambda given: {"truncation": "truncate" if TRUNCATIONS[given.truncation] == "truncate" else "error"},
    beside=tuple(name for name in BESIDE if name != "details"),
    answer=WrittenText.of,
    answers=(WrittenText,),
    example=BodyExample("writer", {"inputs": EXAMPLE}),
)

OPEN_INFERENCE = written_tensors(
    "generated",
    "Text to text: `text` to `generated`, (items,).",
    "writer",
    EXAMPLE,
)
