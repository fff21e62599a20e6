"""Translation, as the rest of Hooper knows it."""

from __future__ import annotations

from pathlib import Path

from app.tasks.generation import SourceText
from app.tasks.spec import NativeRoute, OutputSpec, Served, TaskSpec
from app.tasks.text_classification.spec import FIELDS
from app.tasks.translation.protocols import CORRECTION, HUGGING_FACE, LIBRE_TRANSLATE, OPEN_INFERENCE
from app.tasks.translation.schemas import TranslateRequest, TranslateResult
from app.tasks.translation.task import Translation, TranslationOptions
from app.tasks.written import NATIVE, written_lines, written_table

TRANSLATE = NativeRoute(
    path="v1/translate",
    request=TranslateRequest,
    result=TranslateResult,
    summary="Translate texts",
    description="""Texts of any length in another language, sentence by sentence, with their line breaks.

Greedy unless `num_beams` above 1 or a `temperature` above 0 is sent, or the checkpoint says otherwise.
In a list, an item that cannot be translated gets an `error` in its place, and the others are.""",
)

SPEC = TaskSpec(
    name="translation",
    pipeline_tag="translation",
    title="Translation",
    task=Translation,
    item=SourceText,
    options=TranslationOptions,
    routes=(Served(TRANSLATE, TranslateResult.of),),
    fields={"text": FIELDS["text"]},
    table=written_table("translation"),
    lines=written_lines("translation"),
    native=NATIVE,
    output=OutputSpec("token", name="cross"),
    playground=Path(__file__).with_name("playground.js"),
    hugging_face=HUGGING_FACE,
    open_inference=OPEN_INFERENCE,
    libre_translate=LIBRE_TRANSLATE,
    training="scripts.tasks.translation:SPEC",
    correction=CORRECTION,
)
