"""`POST /v1/explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, create_model

from app.api.protocols.results import MAX_EXPLAINED, ExplainResult, Token
from app.core.errors import HooperError
from app.serving.explaining import DEFAULT_BUDGET, MAX_BUDGET, ExplainOptions
from app.tasks.registry import Tasks
from app.tasks.schemas import ItemOrError, LanguageField, Request, as_list, documented, union
from app.tasks.spec import TaskSpec

MAX_TARGET = 10_000


class ExplainRequest(Request):
    """One item or a list of them, and what about the model's answer is to be explained."""

    inputs: Any
    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None,
        description="A loaded model, as `name` or `name/version`; its task decides what `inputs` must be. Null: the default"
        " model for questions where the first item has a question, else the default model for labels.",
        examples=[None],
    )
    target: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TARGET)] | None = Field(
        None,
        description="What is explained: a label; an answer, as words of the context; or a sentence of the document, verbatim."
        " Null: the one that scores best.",
        examples=[None],
    )
    method: Literal["shapley", "occlusion"] | None = Field(
        None,
        description="`shapley`: each word's share in the score, averaged over what else is read, so that the weights add up"
        " (Owen values); `occlusion`: what is lost when the word alone is hidden. Null: `shapley`.",
    )
    budget: Annotated[int, Field(ge=0, le=MAX_BUDGET, strict=True)] = Field(
        DEFAULT_BUDGET,
        description="Tokens that the model may read to explain one item. With fewer, words that matter little are weighed"
        " together, as phrases whose weight they share.",
    )
    truncation: Literal["error", "truncate", "window"] | None = Field(
        None,
        description="What to do with a text longer than the model reads at once: refuse it (`error`), explain its beginning"
        " (`truncate`), or read all of it and explain the part that speaks most for the target (`window`). Null: as the"
        " model's own route does.",
    )
    language: LanguageField = None

    def options(self) -> ExplainOptions:
        return ExplainOptions(self.target, self.method, self.budget, self.truncation, self.language)

    def candidates(self, tasks: Tasks) -> Sequence[str]:
        """The tasks whose default model is asked: those on the route of the first task that takes items like the first one,
        without any that answers there by items of another kind. None, where a model is named."""
        if self.model is not None:
            return ()
        first = as_list(self.inputs)[0]
        fitting = (spec for spec in tasks.values() if any(isinstance(first, kind) for kind in spec.native.types))
        path = next(fitting, next(iter(tasks.values()))).route.path
        return [name for name in tasks.serving(path) if not tasks[name].served(path).is_adapted]

    def items(self, spec: TaskSpec) -> Sequence[Any]:
        """The items of this task; one of another shape is an error in its place."""
        return [value if isinstance(value, HooperError) else spec.native.item(value) for value in as_list(self.inputs)]


def explain_request(tasks: Tasks) -> type[ExplainRequest]:
    """The request, with the items of all tasks."""
    item: Any = union(kind for spec in tasks.values() for kind in spec.native.types)
    examples = [example for spec in tasks.values() for example in spec.native.examples]
    items = Annotated[list[Annotated[item, ItemOrError]], Field(min_length=1, max_length=MAX_EXPLAINED)]
    described = "What the model's own route takes: a text, a pair, or a question with its context; or a list of them."
    return documented(ExplainRequest, examples, inputs=(item | items, Field(description=described)))


def explain_result(tasks: Tasks) -> type[BaseModel]:
    """The result as it is documented, with the names of all tasks' fields."""
    names = tuple(dict.fromkeys(name for spec in tasks.values() for name in spec.fields))
    field: Any = Literal[names]
    token = create_model("Token", __base__=Token, __doc__=Token.__doc__, field=(field, Token.model_fields["field"]))
    tokens: Any = list[token]  # type: ignore[valid-type]
    return create_model(
        "ExplainResult",
        __base__=ExplainResult,
        __doc__=ExplainResult.__doc__,
        tokens=(tokens, ExplainResult.model_fields["tokens"]),
    )
