"""`POST /v1/feedback`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from app.core.errors import HooperError, InvalidInput
from app.serving.feedback import SentCorrection
from app.tasks.registry import Tasks
from app.tasks.schemas import MANY, ItemOrError, Request, as_list, documented, union
from app.tasks.spec import CorrectionCodec, TaskSpec
from app.tasks.tokenizer import encodable

MAX_SOURCE, MAX_COMMENT = 64, 2000
REQUEST_ID = r"^[A-Za-z0-9._-]{1,64}$"


def _unicode(text: str) -> str:
    if not encodable(text):
        raise ValueError("contains a lone surrogate, which is not valid Unicode")
    return text


Source = Annotated[str, StringConstraints(max_length=MAX_SOURCE), AfterValidator(_unicode)]
Comment = Annotated[str, StringConstraints(max_length=MAX_COMMENT), AfterValidator(_unicode)]


class FeedbackRequest(Request):
    """One correction or a list of them, of one model."""

    inputs: Any
    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None,
        description="The model that is corrected, as `name` or `name/version`; null: the default of the task that the first"
        " item is of. With a version, the correction is refused where that version is no longer loaded.",
        examples=[None],
    )
    allow_new_labels: Annotated[bool, Field(strict=True)] = Field(
        False, description="Whether a label that the model does not have is kept, for the next version to learn."
    )
    request_id: Annotated[str, StringConstraints(pattern=REQUEST_ID)] | None = Field(
        None, description="`X-Request-Id` of the answer that is corrected; null: that of this request.", examples=[None]
    )
    source: Source = Field("", description=f"Who says so, at most {MAX_SOURCE} characters.")
    comment: Comment = Field("", description=f"Why, at most {MAX_COMMENT} characters.")

    def candidates(self, tasks: Tasks) -> Sequence[str]:
        """The tasks whose default model is corrected: those of the first item's kind. None, where a model is named."""
        if self.model is not None:
            return ()
        first = as_list(self.inputs)[0]
        of_kind = [name for name, spec in tasks.items() if spec.correction and isinstance(first, spec.correction.schema)]
        return of_kind or list(tasks)[:1]

    def items(self, spec: TaskSpec) -> Sequence[SentCorrection | HooperError]:
        """The corrections of this task; one of another shape is an error in its place."""
        return [self._corrected(entry, spec) for entry in as_list(self.inputs)]

    def _corrected(self, entry: Any, spec: TaskSpec) -> SentCorrection | HooperError:
        if isinstance(entry, HooperError):
            return entry
        codec = spec.correction
        if codec is None:
            return InvalidInput(f"the model is for {spec.name}, of which no corrections are kept")
        if not isinstance(entry, codec.schema):
            return InvalidInput(f"should have {codec.wanted}: the model is for {spec.name}")
        return SentCorrection(codec.item(entry), entry, codec, self.allow_new_labels)


def feedback_request(tasks: Tasks) -> type[FeedbackRequest]:
    """The request, with the corrections of all tasks."""
    codecs: dict[type[Request], CorrectionCodec] = {}
    for spec in tasks.values():
        if spec.correction is not None:
            codecs.setdefault(spec.correction.schema, spec.correction)
    item: Any = union(Annotated[schema, Tag(schema.__name__)] for schema in codecs)
    if len(codecs) > 1:
        item = Annotated[item, Discriminator(_kind_of(list(codecs.values())))]
    items = Annotated[list[Annotated[item, ItemOrError]], Field(min_length=1)]
    described = f"What the model was asked, with the right answer; or a list of them. {MANY}"
    examples = [example for codec in reversed(codecs.values()) for example in codec.examples]
    return documented(FeedbackRequest, examples, inputs=(item | items, Field(description=described)))


def _kind_of(codecs: Sequence[CorrectionCodec]) -> Callable[[Any], str]:
    """Tells which schema is meant; a tag begins with a capital, so that no error names it."""

    def kind(value: Any) -> str:
        fields = value if isinstance(value, dict) else vars(value) if isinstance(value, Request) else {}
        codec_of_fields = next((codec for codec in codecs if codec.marks & set(fields)), None)
        return (codec_of_fields or next((codec for codec in codecs if not codec.marks), codecs[0])).schema.__name__

    return kind
