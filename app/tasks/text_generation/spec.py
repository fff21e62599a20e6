"""Text generation, as the rest of Hooper knows it."""

from __future__ import annotations

from pathlib import Path

from app.tasks.generation import SourceText
from app.tasks.spec import OutputSpec, Served, TaskSpec
from app.tasks.text2text_generation.schemas import GenerateResult
from app.tasks.text2text_generation.spec import GENERATE
from app.tasks.text2text_generation.spec import SPEC as WRITTEN
from app.tasks.text_classification.spec import FIELDS
from app.tasks.text_generation.openai_chat import OPENAI_WRITING
from app.tasks.text_generation.protocols import HUGGING_FACE, OPEN_INFERENCE
from app.tasks.text_generation.task import ContinueOptions, TextGeneration
from app.tasks.written import NATIVE, written_lines, written_table

SPEC = TaskSpec(
    name="text-generation",
    pipeline_tag="text-generation",
    title="Text generation",
    task=TextGeneration,
    item=SourceText,
    options=ContinueOptions,
    routes=(Served(GENERATE, GenerateResult.of, options=lambda request: request.options_of(ContinueOptions)),),
    fields={"text": FIELDS["text"]},
    table=written_table("text"),
    lines=written_lines("text"),
    native=NATIVE,
    output=OutputSpec("token", name="logits"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    openai_writing=OPENAI_WRITING,
    training="scripts.tasks.text_generation:SPEC",
    correction=WRITTEN.correction,
)
