"""Text-to-text generation, as the rest of Hooper knows it."""

from __future__ import annotations

from pathlib import Path

from app.tasks.generation import SourceText
from app.tasks.spec import NativeRoute, OutputSpec, Served, TaskSpec
from app.tasks.text2text_generation.protocols import HUGGING_FACE, OPEN_INFERENCE
from app.tasks.text2text_generation.schemas import GenerateRequest, GenerateResult
from app.tasks.text2text_generation.task import GenerateOptions, Text2TextGeneration
from app.tasks.text_classification.spec import FIELDS
from app.tasks.written import NATIVE, correction_of, written_lines, written_table

GENERATE = NativeRoute(
    path="v1/generate",
    request=GenerateRequest,
    result=GenerateResult,
    summary="Write texts from texts",
    description="""What the model writes from a text: an answer, a correction, whatever it was trained for. A model without an
encoder (text-generation) continues the text.

Greedy unless a `temperature` above 0 or `num_beams` above 1 is sent, or the checkpoint says otherwise.
In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.""",
)

EXAMPLE_CORRECTION = ("The film was very good.", "A very good film.")

SPEC = TaskSpec(
    name="text2text-generation",
    pipeline_tag="text2text-generation",
    title="Text to text",
    task=Text2TextGeneration,
    item=SourceText,
    options=GenerateOptions,
    routes=(Served(GENERATE, GenerateResult.of),),
    fields={"text": FIELDS["text"]},
    table=written_table("text"),
    lines=written_lines("text"),
    native=NATIVE,
    output=OutputSpec("token", name="cross"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    training="scripts.tasks.text2text_generation:SPEC",
    correction=correction_of("CorrectText", "target", "What should have been written.", EXAMPLE_CORRECTION),
)
