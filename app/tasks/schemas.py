"""What the native requests of all tasks share: common options, and items of which each may be wrong alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import islice
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, WrapValidator, create_model
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from app.core.errors import HooperError, InvalidInput
from app.core.types import DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_ITEMS
from app.core.validation import wrong_field
from app.tasks.sentences import LANGUAGE_CODE

MAX_ITEM_FIELDS = 10
"""Of an item; no task's has half as many, so that among so many there are unknown ones."""
MANY = (
    f"At most {DEFAULT_MAX_ITEMS} items, in a body of at most {DEFAULT_MAX_BODY_BYTES:,} bytes, unless the service is set"
    " otherwise."
)
"""The limits of `inputs`, for its description."""

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
TruncationField = Annotated[
    Literal["error", "truncate", "window"],
    Field(
        description="What to do with a text longer than the model reads: refuse it (`error`), cut it (`truncate`),"
        " or read all of it in overlapping windows (`window`)."
    ),
]
ModelField = Annotated[
    Annotated[str, StringConstraints(max_length=96)] | None,
    Field(
        description="A loaded model, as `name` or `name/version`, of at most 96 characters; null: the task's default.",
        examples=[None],
    ),
]

LanguageField = Annotated[
    Annotated[str, StringConstraints(pattern=LANGUAGE_CODE, max_length=35)] | None,
    Field(
        description="Language of the documents, as a code such as `de` or `pt-BR`: it decides where sentences end. English,"
        " German, French, Spanish, Chinese and Japanese have rules of their own; the others are split by their marks and by"
        " what the library `sentencex` knows of their abbreviations. Null: the language that the model was trained for.",
        examples=[None],
    ),
]


class Request(BaseModel):
    """Unknown fields are refused: a mistyped option must not be ignored."""

    model_config = ConfigDict(extra="forbid")
    items_field: ClassVar[str] = "inputs"
    """The field that holds the items: one of them, or a list."""


def with_examples(*bodies: Any) -> ConfigDict:
    """The `model_config` of a request with these examples."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(bodies)})


class NativeRequest(Protocol):
    """The body of a native route."""

    items_field: ClassVar[str]
    model: str | None

    def items(self) -> Sequence[Any]:
        """The task's own items; one of the wrong shape is an error in its place."""
        ...

    def options(self) -> Any:
        """The task's own options."""
        ...


def _keep_error(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """In a list, an item of the wrong shape fails alone: its error takes its place."""
    if isinstance(value, HooperError):  # it was read before
        return value
    if isinstance(value, dict) and len(value) > MAX_ITEM_FIELDS:  # of those beyond, nothing would be said
        value = dict(islice(value.items(), MAX_ITEM_FIELDS))
    try:
        return handler(value)
    except ValidationError as error:
        field, message = wrong_field(error.errors(include_url=False, include_input=False))
        return InvalidInput(message, field or None)


ItemOrError = WrapValidator(_keep_error)
"""Annotates the element of a list of items."""


def as_list(inputs: Any) -> Sequence[Any]:
    """One item as a list of it; a list as it is."""
    return inputs if isinstance(inputs, list) else [inputs]


ModelT = TypeVar("ModelT", bound=BaseModel)


def told(kind: type[ModelT], answer: Any, **others: Any) -> ModelT:
    """A result or a part of one, not validated: its fields are attributes of the answer, but for the others."""
    own = {name: getattr(answer, name) for name in kind.model_fields if name not in others}
    return kind.model_construct(**own, **others)


def read_as(kind: type[ModelT], value: Any, place: Callable[[str], str]) -> ModelT:
    """A value as a schema reads it.

    Args:
        value: JSON.
        place: from a field to how the caller names it; from nothing, where the value itself is wrong.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        field, message = wrong_field(error.errors(include_url=False, include_input=False))
        raise InvalidInput(message, place(field)) from None


def documented(base: type[ModelT], examples: Sequence[Any], **fields: Any) -> type[ModelT]:
    """A request under the name and the docstring of its base, with fields and examples that the tasks decide."""
    model = create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
    model.model_config = with_examples(*examples)
    model.model_rebuild(force=True)
    return model


def items_of(request: type[BaseModel]) -> TypeAdapter[list[Any]]:
    """What reads a list of a native request's items, each for itself."""
    annotation = request.model_fields[items_field_of(request)].annotation
    for form in (annotation, *get_args(annotation)):
        bare = get_args(form)[0] if get_origin(form) is Annotated else form
        if get_origin(bare) is list:
            return TypeAdapter(list[get_args(bare)[0]])  # type: ignore[arg-type, misc]
    raise TypeError(f"{request.__name__} takes no list of items")


def items_field_of(request: type[BaseModel]) -> str:
    """The field of a native request that holds its items."""
    name: str = getattr(request, "items_field", Request.items_field)
    return name


def union(kinds: Iterable[Any]) -> Any:
    """Types joined by `|`, each once."""
    return reduce(or_, dict.fromkeys(kinds))
