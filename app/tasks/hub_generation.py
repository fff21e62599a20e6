"""How texts are written, in the words of Hugging Face's pipelines and of text-generation-inference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from app.core.errors import InvalidInput
from app.core.types import Truncation
from app.core.validation import wrong_field
from app.tasks.base import Result
from app.tasks.generation import GeneratedText, SourceText
from app.tasks.protocols import hub_parameters, tensors_example
from app.tasks.schemas import Count, Flag, Request, read_as
from app.tasks.spec import HuggingFaceCodec, OpenInferenceCodec

GENERATE_PARAMETERS = "generate_parameters"
LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Of the pipelines, which count the token that a text starts with."""
SAMPLING = ("temperature", "top_k", "top_p")
FORMS = ("schema", "regex")
"""What the native routes call what text-generation-inference calls `grammar`."""
NAMED = frozenset({"inputs", "model", "parameters", "stream", "text_input"})
"""Fields that protocols name by themselves."""
NOT_HERE = (
    "adapter_id", "best_of", "decoder_input_details", "frequency_penalty", "return_full_text", "top_n_tokens",
    "truncate", "typical_p", "watermark",
)  # fmt: skip
"""Of text-generation-inference; where they say nothing they are taken."""
TRUNCATIONS: Mapping[str | None, Truncation] = {
    None: "window", "do_not_truncate": "window", "only_second": "window", "longest_first": "truncate", "only_first": "truncate",
}  # fmt: skip
"""A text has no second one that could be cut, so `only_second` cuts nothing."""
TruncationName = Literal["do_not_truncate", "longest_first", "only_first", "only_second"]


class TgiDetails(BaseModel):
    """How a text ended, as text-generation-inference tells it; of single tokens nothing is told."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"] = Field(description="Why the text ended.")
    generated_tokens: int = Field(description="Tokens that were written.")
    prefill: list[Any] = Field(description="Empty.")
    tokens: list[Any] = Field(description="Empty.")

    @classmethod
    def of(cls, answer: GeneratedText) -> TgiDetails:
        reason = "length" if answer.finish_reason == "length" else "stop_sequence" if answer.has_stop_string else "eos_token"
        return cls.model_construct(finish_reason=reason, generated_tokens=answer.num_new_tokens, prefill=[], tokens=[])


class WrittenText(BaseModel):
    """A text, as the specification has it, and how it ended."""

    generated_text: str = Field(description="The text that was written.")
    details: TgiDetails = Field(description="How it ended.")

    @classmethod
    def of(cls, result: Result) -> WrittenText:
        return cls.model_construct(generated_text=result.answer.text, details=TgiDetails.of(result.answer))


Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
FLAGS = {"return_full_text": Flag}


class TgiGrammar(Request):
    """What the text must be, as text-generation-inference has it."""

    type: Literal["json", "json_schema", "regex"] = Field(description="What `value` is; `json` is a JSON schema, too.")
    value: str | dict[str, Any] = Field(
        description="The schema, or of `json_schema` an object with `schema`, or the regular expression."
    )

    def native_values(self) -> dict[str, Any]:
        """Options of the native routes that mean the same.

        Raises:
            InvalidInput: the value is not of its type.
        """
        if self.type == "regex":
            if not isinstance(self.value, str):
                raise InvalidInput("should be a text, for type: regex", "grammar.value")
            return {"regex": self.value}
        schema = self._parsed()
        if self.type == "json_schema" and isinstance(schema, dict):
            schema = schema.get("schema")
        if not isinstance(schema, dict):
            raise InvalidInput(f"should be or hold a JSON schema, for type: {self.type}", "grammar.value")
        return {"schema": schema}

    def _parsed(self) -> Any:
        try:
            return json.loads(self.value) if isinstance(self.value, str) else self.value
        except (ValueError, RecursionError):  # no JSON, or one that is nested too deeply
            return None


def pipeline_parameters(family: str) -> dict[str, tuple[Any, Any]]:
    """What a call of a transformers pipeline is told beside its texts, and so the hosted API, for any task that writes.

    Args:
        family: what the task is called in descriptions.
    """
    return hub_parameters(
        family,
        max_new_tokens=(Whole, "how many tokens to write at most"),
        max_length=(Whole, "the same and one more: it counts the token that a text starts with"),
        min_length=(Whole, "how many tokens to write at least, counted in the same way"),
        num_beams=(Whole, "beams of the beam search"),
        do_sample=(Flag, "whether tokens are drawn"),
        temperature=(Number, "how freely tokens are drawn, from 0 for the likeliest alone to 100"),
        top_k=(Count, "they are drawn from so many of the likeliest"),
        top_p=(Number, "they are drawn from those that together have this probability"),
        repetition_penalty=(Number, "above 1 makes tokens that were written less likely"),
    )


def tgi_parameters(family: str, own: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Parameters of text-generation-inference, for a task that writes any text.

    Args:
        family: what the task is called in descriptions.
        own: those that the task describes itself.
    """
    refused = "of text-generation-inference, and refused unless it says nothing"
    shared = pipeline_parameters(family)
    return {
        **{name: shared[name] for name in ("max_new_tokens", "do_sample", *SAMPLING, "repetition_penalty")},
        **hub_parameters(
            family,
            seed=(Whole, "the same seed gives the same text"),
            stop=(list[str], "strings at which a text ends"),
            **{name: (FLAGS.get(name, Any), refused) for name in NOT_HERE if name not in own},
            grammar=(TgiGrammar, "what the text must be, as `schema` and `regex` of the native route"),
            details=(Flag, "changes nothing; every answer says how its text ended"),
        ),
    }


def common_parameters(family: str) -> dict[str, tuple[Any, Any]]:
    """Parameters of every task that writes."""
    return hub_parameters(
        family,
        truncation=(
            TruncationName,
            (
                "`longest_first` and `only_first` read only as much of a text as the model reads at once; null,"
                " `do_not_truncate` and `only_second` read all of it, or refuse it where that cannot be"
            ),
        ),
        clean_up_tokenization_spaces=(Flag, "changes nothing; texts are as the model's tokenizer gives them"),
        generate_parameters=(
            dict[str, Any],
            (
                "how to write: the options of the native routes, such as `num_beams`, and `max_length`, `min_length` and"
                " `do_sample` as transformers has them"
            ),
        ),
    )


def native_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the native routes that mean the same.

    Raises:
        InvalidInput: one of them cannot be followed.
    """
    values = {name: value for name, value in parameters.items() if value is not None}
    for name in NOT_HERE:
        if values.pop(name, None):
            raise InvalidInput("is not supported here; leave it out", name)
    if (grammar := values.pop("grammar", None)) is not None:
        values |= _grammar(grammar).native_values()
    for name, own in LENGTHS.items():
        length = values.pop(name, None)
        if length is None:
            continue
        if not isinstance(length, int) or isinstance(length, bool) or length < 2:
            raise InvalidInput("should be a whole number above 1: it counts the token that a text starts with", name)
        values.setdefault(own, length - 1)
    draws = values.pop("do_sample", None)
    if draws is not None and not isinstance(draws, bool):
        raise InvalidInput("should be a valid boolean", "do_sample")
    if draws or (draws is None and any(values.get(name) for name in SAMPLING)):
        values.setdefault("temperature", 1.0)
    elif draws is False:
        values = {name: value for name, value in values.items() if name not in SAMPLING} | {"temperature": 0.0}
    return values


def _grammar(value: Any) -> TgiGrammar:
    if isinstance(value, TgiGrammar):
        return value
    return read_as(TgiGrammar, value, lambda field: f"grammar.{field}" if field else "grammar")


def sent_name(field: str, parameters: Mapping[str, Any]) -> str:
    """How a caller of these parameters calls an option of the native routes."""
    if field in FORMS and parameters.get("grammar") is not None:
        return "grammar"
    lengths = (name for name, own in LENGTHS.items() if own == field and parameters.get(own) is None)
    return next((name for name in lengths if parameters.get(name) is not None), field)


def option_name(field: str, parameters: Mapping[str, Any], place: Callable[[str], str]) -> str:
    """How the caller names what a task calls a field in an error: an option by its parameter, what is named already as it is.

    Args:
        place: from a parameter's name to where it stands.
    """
    return field if field.partition(".")[0] in NAMED else place(sent_name(field, parameters))


def read_options(
    options: Callable[[Mapping[str, Any]], Any],
    parameters: Mapping[str, Any],
    own: Mapping[str, Any],
    place: Callable[[str], str],
) -> Any:
    """A task's own options.

    Args:
        options: from the fields of a native request to the task's options.
        parameters: how to write, in others' words.
        own: fields of the native request beside those.
        place: from a field to how the caller names it.

    Raises:
        InvalidInput: one of them is wrong.
    """
    for name in ("inputs", "model"):
        if name in parameters:
            raise InvalidInput("is no parameter; it stands beside them", place(name))
    try:
        return options({"inputs": "a", **native_values(parameters), **own})
    except ValidationError as error:
        field, message = wrong_field(error.errors(include_url=False, include_input=False))
        raise InvalidInput(message, place(sent_name(field, parameters))) from None
    except InvalidInput as error:
        raise InvalidInput(error.reason, place(sent_name(error.field, parameters)) if error.field else None) from None


def codec(
    *,
    family: str,
    options: Callable[[Mapping[str, Any]], Any],
    parameters: Mapping[str, tuple[Any, Any]],
    own: Callable[[Any], Mapping[str, Any]],
    beside: Sequence[str] = (),
    item: Callable[[Any], Any] = lambda value: SourceText(value) if isinstance(value, str) else None,
    **others: Any,
) -> HuggingFaceCodec:
    """Of a task that writes: `generate_parameters`, and its own parameters beside them.

    Args:
        family: what the task is called in descriptions.
        options: see `read_options`.
        parameters: the task's own beside those of all.
        own: from all parameters to fields of the native request that they stand for.
        beside: of its own parameters those that say how to write, as `generate_parameters` do.
    """
    renamed: Mapping[str, str] = others.get("renamed", {})

    def read(given: Any) -> Any:
        outer, inner = _parts(given, beside)
        return read_options(options, {**inner, **outer}, own(given), partial(_place, outer))

    def option_place(given: Any, field: str) -> str:
        outer, inner = _parts(given, beside)
        if (name := renamed.get(field, field)) in parameters and name not in beside:
            return f"parameters.{name}"
        return option_name(field, {**inner, **outer}, partial(_place, outer))

    return HuggingFaceCodec(
        wanted="a text",
        item=item,
        parameters={**common_parameters(family), **parameters},
        options=read,
        option_place=option_place,
        unused=frozenset({"clean_up_tokenization_spaces"}),
        **others,
    )


def _parts(given: Any, beside: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters beside `generate_parameters` that say how to write, and those within."""
    outer = {name: value for name in beside if (value := getattr(given, name)) is not None}
    return outer, getattr(given, GENERATE_PARAMETERS) or {}


def _place(outer: Mapping[str, Any], field: str) -> str:
    return f"parameters.{field}" if field.partition(".")[0] in outer else f"parameters.{GENERATE_PARAMETERS}.{field}"


def written_tensors(
    output: str, description: str, model: str, example: str, item: Callable[[str], Any] = SourceText
) -> OpenInferenceCodec:
    """Of a task that writes a text from a text: `text` in, the written texts out, (items,).

    Args:
        description: of both, for the docs page.
        item: from a text to the task's item.
    """
    return OpenInferenceCodec(
        outputs={output: "BYTES"},
        items=lambda texts: [item(text) for text in texts["text"]],
        columns=lambda results: ({output: [result.answer.text for result in results]}, [len(results)]),
        description=description,
        example=tensors_example(model, text=[example]),
        excluded=("stream",),
    )
