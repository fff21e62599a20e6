"""Translations in the words of other protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, field_validator

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.generation import MAX_BEAMS, SourceText
from app.tasks.hub_generation import TRUNCATIONS, codec, pipeline_parameters, written_tensors
from app.tasks.protocols import hub_parameters
from app.tasks.schemas import Request, as_list, with_examples
from app.tasks.spec import BodyExample, LibreTranslateCodec
from app.tasks.translation.languages import name_of
from app.tasks.translation.schemas import EXAMPLE, TranslateRequest
from app.tasks.translation.task import Translation, TranslationOptions
from app.tasks.written import AskedOptions, correction_of

AUTO = "auto"
Code = Annotated[str, StringConstraints(max_length=35)]


class TranslatedText(BaseModel):
    """A translation, as the specification has it."""

    translation_text: str = Field(description="The text in the other language.")


BESIDE = pipeline_parameters("Translation")

HUGGING_FACE = codec(
    family="Translation",
    inputs="translation: a text",
    options=lambda values: TranslateRequest.model_validate(values).options(),
    beside=tuple(BESIDE),
    parameters={
        **BESIDE,
        **hub_parameters(
            "Translation",
            src_lang=(Code, "language of the texts; null: the model's only or usual one"),
            tgt_lang=(Code, "language to translate into; null: likewise"),
        ),
    },
    own=lambda given: {
        "source": given.src_lang or None,
        "target": given.tgt_lang or None,
        "truncation": TRUNCATIONS[given.truncation],
    },
    answer=lambda result: TranslatedText.model_construct(translation_text=result.answer.text),
    answers=(TranslatedText,),
    example=BodyExample("translate", {"inputs": EXAMPLE}),
    renamed={"source": "src_lang", "target": "tgt_lang"},
)

OPEN_INFERENCE = written_tensors(
    "translation",
    "Translation: `text` to `translation`, (items,).",
    "translate",
    EXAMPLE,
)


# LibreTranslate


class LibreRequest(Request):
    """One text or a list of them, and the languages."""

    model_config = with_examples({"q": EXAMPLE, "source": "en", "target": "de"})

    q: str | Annotated[list[str], Field(min_length=1)] = Field(description="A text, or a list of them.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=35)] = Field(
        description="Language of the texts; `auto`: the only or usual one of the model, for languages are not detected."
    )
    target: Annotated[str, StringConstraints(min_length=1, max_length=35)] = Field(description="Language to translate into.")
    format: Literal["text", "html"] = Field("text", description="`text`; markup is not understood, so that `html` is refused.")
    alternatives: Annotated[int, Field(ge=0, lt=MAX_BEAMS)] = Field(
        0, description="How many other translations to give, which are found with one beam more."
    )
    api_key: str | None = Field(
        None, description="A key, where the service asks for one and no header brings it; in bodies of at most 64 KB."
    )

    @field_validator("format")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value == "html":
            raise ValueError("html is not understood; send the text without its markup, and format: text")
        return value

    def items(self) -> list[SourceText]:
        return [SourceText(text) for text in as_list(self.q)]

    def options(self) -> TranslationOptions:
        source = None if self.source == AUTO else self.source
        if not self.alternatives:
            return TranslationOptions(source=source, target=self.target)
        num_texts = self.alternatives + 1
        return TranslationOptions(
            source=source, target=self.target, num_beams=num_texts, temperature=0.0, num_return_sequences=num_texts
        )

    def place(self, number: int, field: str) -> str:
        if field in ("source", "target"):
            return field
        return f"q.{number}" if isinstance(self.q, list) else "q"

    def shaped(self, results: Sequence[Result], model: str) -> LibreAnswer:
        texts = [result.answer.text for result in results]
        others = [list(result.answer.alternatives or ()) for result in results]
        is_list = isinstance(self.q, list)
        return LibreAnswer(
            translatedText=texts if is_list else texts[0],
            alternatives=(others if is_list else others[0]) if self.alternatives else None,
        )


class LibreAnswer(BaseModel):
    """The translations."""

    translatedText: str | list[str] = Field(description="The text in the other language; of a list, a list.")  # noqa: N815
    alternatives: list[str] | list[list[str]] | None = Field(
        None, description="The other translations, where they were asked for."
    )


def _serves(task: Translation, source: str, target: str) -> bool:
    try:
        task.languages(TranslationOptions(source=None if source == AUTO else source, target=target))
    except InvalidInput:
        return False
    return True


LIBRE_TRANSLATE = LibreTranslateCodec(
    request=LibreRequest,
    answer=LibreAnswer,
    serves=_serves,
    languages=lambda task: task.pairs(),
    names=name_of,
    advice="shorter sentences",
)


# corrections

LANGUAGE_COLUMNS = {"source": "source_language", "target": "target_language"}
"""Of what a correction's languages are called in the data that is trained on."""


def _asked(sent: Any, task: Translation) -> dict[str, str]:
    """Of a model that knows several languages, its codes for the two; that of one pair has nothing to tell."""
    source, target = task.languages(TranslationOptions(source=sent.source, target=sent.target))
    return {"source": source, "target": target} if len(task.sources) > 1 or len(task.targets) > 1 else {}


CORRECTION = correction_of(
    "CorrectTranslation",
    "translation",
    "The right translation.",
    (EXAMPLE, "Ein Hund läuft durch den Schnee."),
    AskedOptions(
        {
            "source": "Language of the text, as for `/v1/translate`; null: the model's only one, or its usual one.",
            "target": "Language of the translation, in the same way.",
        },
        LANGUAGE_COLUMNS,
        _asked,
    ),
)
