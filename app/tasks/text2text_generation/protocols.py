"""Texts from texts in the words of other protocols."""

from __future__ import annotations

from app.tasks.generation import SourceText
from app.tasks.hub_generation import TRUNCATIONS, WrittenText, codec, tgi_parameters
from app.tasks.spec import BodyExample, OpenInferenceCodec
from app.tasks.text2text_generation.schemas import EXAMPLE, GenerateRequest

BESIDE = tgi_parameters("Text to text")

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

OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("text",),
    outputs={"generated": "BYTES"},
    rank=1,
    items=lambda texts: [SourceText(text) for text in texts["text"]],
    columns=lambda results: ({"generated": [result.answer.text for result in results]}, [len(results)]),
    native_item="a",
    description="Text to text: `text` to `generated`, (items,).",
    example=BodyExample("writer", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE]}]}),
    excluded=("stream",),
)
