"""The seam between a task and the house: everything that the rest of Hooper knows of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import itemgetter, methodcaller
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from app.core.errors import HooperError, InvalidArtefact
from app.core.fields import FieldSpec
from app.core.manifest import Decoder, Manifest
from app.tasks.base import Generative, Result, StreamedText, Task
from app.tasks.manifest_options import checked_options
from app.tasks.schemas import Request
from app.tasks.tables import TableSpec as TableSpec
from app.tasks.tables import TextLine as TextLine
from app.tasks.text_generator import TextGenerator
from app.tasks.tokenizer import Tokenizer

Datatype = Literal["BYTES", "FP32", "INT64", "BOOL"]
"""Types of tensors in the Open Inference Protocol; `BYTES` are texts."""
Gold = dict[str, Any]
"""A right answer as it is kept: see `Correction.right`."""
DISTRIBUTION = "hooper"
"""The distribution that brings the tasks of this repository."""


@dataclass(frozen=True, slots=True)
class BodyExample:
    """A body that runs as it stands against the shipped models, for the docs page."""

    model: str
    value: Any


@dataclass(frozen=True, slots=True)
class NativeRoute:
    """A path under which tasks answer in Hooper's own way; several tasks may share one."""

    path: str
    """Within the service, as `v1/classify`."""
    request: type[BaseModel]
    """Satisfies `NativeRequest`."""
    result: type[BaseModel]
    """What stands in `results` for one item."""
    summary: str
    description: str
    listed: type[BaseModel] | None = None
    """Where the results of a request depend on all of its items, as a ranking does, and what they share stands beside them:
    the request with whole items in `inputs`, each answered for itself, as rows of a file and tensors are. Satisfies
    `NativeRequest`. None: `request` is of that shape."""

    @property
    def is_whole(self) -> bool:
        """Whether the results of a request depend on all of its items, so that it cannot be cut into several."""
        return self.listed is not None

    @property
    def item_request(self) -> type[BaseModel]:
        """The request for items that have all of their fields, in `inputs`."""
        return self.listed or self.request

    def fields_of_items(self, fields: Mapping[str, FieldSpec]) -> dict[str, FieldSpec]:
        """Those of a task's fields that a request has in each item, and not beside them for all."""
        return {name: spec for name, spec in fields.items() if not self.is_whole or name not in self.request.model_fields}


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The output of a graph that a task reads."""

    axis: Literal["row", "token", "position"] = "row"
    """What one of its vectors belongs to: see `app.core.manifest.Output`."""
    name: str = "logits"
    num_features: int = 0
    """Of a vector; 0: as many as the model's task options say, such as labels."""


@dataclass(frozen=True, slots=True)
class HuggingFaceCodec:
    """The Hugging Face Inference API to a task's items and options, and its answers back."""

    inputs: str
    """What an input is, after the family's name: `classification: a text, or a pair`."""
    wanted: str
    """What is wanted where an input has another task's shape."""
    item: Callable[[Any], Any]
    """From one of the types in `NativeItems.types` of any task to the task's item; None: it is none of this task's."""
    parameters: Mapping[str, tuple[Any, Any]]
    """Name to type and field; all default to None. Where several tasks have one of the same name, its type is the same."""
    options: Callable[[Any], Any]
    """From the parameters, as attributes, to the task's options. May raise InvalidInput with `parameters.NAME`."""
    answer: Callable[[Result], Any]
    answers: tuple[Any, ...]
    """Types of the answer to one input; the first one is what a list of inputs gets a list of."""
    example: BodyExample
    for_hub_client: Callable[[Any, Any], Any] = lambda answer, parameters: [answer]
    """The answer to one input in the shape that Hugging Face's own clients read; `parameters` may be None."""
    unused: frozenset[str] = frozenset()
    """Parameters that are taken and change nothing, which a header says."""
    types: tuple[Any, ...] = ()
    """Of an input beside those of the task's `NativeItems`."""
    beside_inputs: frozenset[str] = frozenset()
    """Parameters that may stand beside `inputs`, too, where the task's specification has them."""
    mark: str = ""
    """Of a route that is not the task's own: the parameter by which a request is known to be for it."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Fields of that route's request to the parameters that are called otherwise."""
    option_place: Callable[[Any, str], str] = lambda parameters, field: field
    """From the parameters and a field that the task names in an error of its options to how the caller names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInferenceCodec:
    """Tensors of the Open Inference Protocol to a task's items, and its answers back."""

    inputs: tuple[str, ...] = ("text",)
    """Tensors of texts, one per field of an item."""
    outputs: Mapping[str, Datatype]
    rank: Literal[1, 2] = 1
    """Axes of the outputs: items, or items and labels."""
    items: Callable[[Mapping[str, Sequence[str]]], list[Any]]
    columns: Callable[[Sequence[Result]], tuple[dict[str, list[Any]], list[int]]]
    """The data of all outputs, and their shape."""
    native_item: Any = "a"
    """An item as the native route takes it, around which its options are read."""
    description: str
    """One sentence on its tensors."""
    example: BodyExample
    optional: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    """Options of the native route that are no parameters here, since outputs have one answer per item."""
    model_outputs: Callable[[Mapping[str, Any]], Mapping[str, Datatype]] = lambda task_options: {}
    """Outputs that only some models have besides, by the manifest's task options."""
    mark: str = ""
    """Of a route that is not the task's own: the option by which a request is known to be for it."""

    def outputs_of(self, task_options: Mapping[str, Any]) -> dict[str, Datatype]:
        """All outputs of a model."""
        return {**self.outputs, **self.model_outputs(task_options)}


Arranged = Sequence[tuple[int, BaseModel | HooperError]]
"""What stands in `results`, each with the number of its item in the request."""


@dataclass(frozen=True, slots=True)
class Served:
    """A native route that a task serves."""

    route: NativeRoute
    wrap: Callable[[Result], BaseModel]
    """From the task's answer to one item to what is told of it; to the route's result, unless `arrange` makes that."""
    arrange: Callable[[Any, Sequence[Result | HooperError]], Arranged] | None = None
    """From a request and the answers to its items, in order, to its results, where those have another order or are fewer; None:
    one for each item, in the order of the items."""
    items: Callable[[Any, Mapping[str, Any]], Sequence[Any]] | None = None
    """From a request and the manifest's task options to the task's own items, where those are others than the route's: more of
    them, or of another kind. None: they are the request's."""
    options: Callable[[Any], Any] = methodcaller("options")
    """From a request to the task's own options."""
    refusal: Callable[[Mapping[str, Any]], str] | None = None
    """From the manifest's task options to why a model of the task cannot serve the route, as a clause; empty: it can. None: all
    can."""
    hugging_face: HuggingFaceCodec | None = None
    """How an adapted route is asked there, where one of its parameters says that it is meant (`mark`). Items are those in the
    route's `inputs`, options the other fields of its request, and what is answered are its results."""
    open_inference: OpenInferenceCodec | None = None
    """The same with tensors, where an option of the route says that it is meant (`mark`), and of files."""
    table: TableSpec | None = None
    """Columns of the route's results, where they are others than those of the task's own."""
    lines: Callable[[Mapping[str, Any], Mapping[str, Any], int], Sequence[TextLine]] | None = None
    """The same for a terminal."""
    is_for: Callable[[Any], bool] = lambda request: True
    """From a request to whether it may be the task's; else none of its models is asked."""

    @property
    def is_adapted(self) -> bool:
        """Whether the task's items are others than those of the request."""
        return self.items is not None

    def refuses(self, manifest: Manifest) -> str:
        """Why a model of the task cannot serve the route, as a clause; empty: it can."""
        return self.refusal(manifest.task_options) if self.refusal is not None else ""

    def items_of(self, request: Any, task_options: Mapping[str, Any]) -> Sequence[Any]:
        """The task's own items of a request."""
        own: Sequence[Any] = request.items() if self.items is None else self.items(request, task_options)
        return own

    def told(self, request: Any, results: Sequence[Result | HooperError]) -> Sequence[BaseModel | HooperError]:
        """What is told of each of a request's items, in their order, from the answers to the task's own items."""
        is_listed = self.route.listed is not None and isinstance(request, self.route.listed)  # each has an answer of its own
        if self.arrange is None or is_listed:
            return wrapped(results, self.wrap)
        return [entry for _, entry in sorted(self.arrange(request, results), key=itemgetter(0))]


def wrapped(results: Sequence[Any], wrap: Callable[[Any], BaseModel]) -> list[BaseModel | HooperError]:
    """What is told of answers one by one; errors stay in their places."""
    return [result if isinstance(result, HooperError) else wrap(result) for result in results]


class OthersBody(Protocol):
    """The body of a route of another service's own, in whose shape the answer is."""

    def place(self, number: int, field: str) -> str:
        """How the caller names a field of an item, or an option."""

    def shaped(self, results: Sequence[Result], model: str) -> Any:
        """The answer to the whole request; `model` is the name of who gave it."""


class DropInRequest(OthersBody, Protocol):
    """One that is answered as a native request is."""

    def items(self) -> Sequence[Any]: ...

    def options(self) -> Any: ...


class TranslationRequest(DropInRequest, Protocol):
    """One whose languages say which model is asked."""

    source: str
    """`auto`: whatever the model reads."""
    target: str


@dataclass(frozen=True, slots=True)
class LibreTranslateCodec:
    """What a task answers of LibreTranslate."""

    request: type[BaseModel]
    """Satisfies `TranslationRequest`."""
    answer: Any
    """Type of the answer."""
    serves: Callable[[Any, str, str], bool]
    """From a model's task and the two codes of a request to whether it can answer it."""
    languages: Callable[[Any], Mapping[str, Sequence[str]]]
    """From a model's task to the languages that it reads, and those that it writes of each."""
    names: Callable[[str], str]
    """From a code to what the language is called."""
    advice: str
    """How a caller has a long text read, as the protocol writes it."""


class StreamedPieces(Protocol):
    """What is told of the texts of items while they are written, in the shape of the protocol, each as JSON."""

    def text(self, number: int, piece: StreamedText) -> Sequence[Any]:
        """Of a piece of a text; `number` is the item's."""

    def end(self, number: int, result: Result) -> Sequence[Any]:
        """Once an item is finished."""

    def last(self, results: Sequence[Result]) -> Sequence[Any]:
        """Once all are."""


class WritingBody(OthersBody, Protocol):
    """One of a route under which texts are written."""

    model: str | None
    stream: bool | None

    def prepared(self, task: Any) -> tuple[Sequence[Any], Any]:
        """The task's items and options; takes its time.

        Raises:
            InvalidInput: it cannot be answered.
        """

    def pieces(self, task: Any, model: str) -> StreamedPieces:
        """Of the answer to its items; `model` is the name of who gives it."""


@dataclass(frozen=True, slots=True)
class WritingCodec:
    """A route of another service's own under which a task writes."""

    path: str
    request: type[BaseModel]
    """Satisfies `WritingBody`."""
    answer: Any
    """Type of the answer."""
    summary: str
    description: str


ModelKind = Literal["embedding", "reranker", "classifier"]
"""What text-embeddings-inference calls its models."""


@dataclass(frozen=True, slots=True)
class DropInCodec:
    """A route of another service's own that a task answers."""

    path: str
    request: type[BaseModel]
    """Satisfies `DropInRequest`."""
    answer: Any
    """Type of the answer."""
    summary: str
    description: str
    advice: str
    """How a caller has a long text read, as the protocol writes it."""
    adapt: Callable[[Any, Mapping[str, Any]], DropInRequest] | None = None
    """From a request of the path's first task and the manifest's task options to this task's own items and answer, of another
    task that answers the same path; None: the request has them."""

    def asked(self, request: Any, manifest: Manifest) -> DropInRequest:
        """The request as a model's task reads it."""
        own: DropInRequest = request if self.adapt is None else self.adapt(request, manifest.task_options)
        return own


@dataclass(frozen=True, slots=True)
class TextEmbeddingsCodec:
    """What a task answers of text-embeddings-inference."""

    routes: tuple[DropInCodec, ...]
    kind: ModelKind
    model_type: Callable[[Manifest], dict[str, Any]]
    """What `GET /info` says of a model of this kind."""


@dataclass(frozen=True, slots=True)
class NativeItems:
    """Items as routes for every task take them: explaining, and corrections of them."""

    types: tuple[Any, ...]
    """Of an item in a request's body: `str`, or a schema."""
    item: Callable[[Any], Any]
    """From one of these, or of those of any other task, to the task's item; what is none of it is an InvalidInput, returned."""
    examples: tuple[Any, ...] = ()
    """Bodies for `POST /v1/explain`."""


@dataclass(frozen=True, slots=True)
class CorrectionCodec:
    """What a person says is right about an item: how it is sent, checked, kept and learned from."""

    schema: type[Request]
    marks: frozenset[str]
    """Fields by which a body is known to be of this kind; empty: those that no other task claims."""
    wanted: str
    """Its fields, for whoever sends another kind."""
    item: Callable[[Any], Any]
    """From the schema to the task's item."""
    gold: Callable[[Any, Any, bool, Mapping[str, Any]], Gold]
    """From the schema, the item, whether new labels are meant, and the manifest's `task_options` to what is kept. May raise
    InvalidInput."""
    agrees: Callable[[Any, Any], bool]
    """Whether the answer was right, by the schema."""
    training_row: Callable[[Mapping[str, Any], Gold], dict[str, Any]]
    """From an item's fields and what is right to the row that `hooper train` reads."""
    examples: tuple[Any, ...] = ()
    """Bodies for `POST /v1/feedback`."""
    predicted: Callable[[Any], dict[str, Any]] = asdict
    """From the model's answer to what is kept of it, and told."""
    asked: Callable[[Any, Any], Mapping[str, Any]] = lambda sent, task: {}
    """From the schema and the model's task to the options of the request that is corrected, which are kept as fields of the
    item: the same text with others is another item. May raise InvalidInput."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task, as a folder registers it."""

    name: str
    """The manifest's, unique: `token-classification`."""
    pipeline_tag: str
    """The Hub's, which several tasks may share."""
    title: str
    """For people: `Text classification`."""
    task: Callable[..., Task[Any, Any, Any]]
    """Its class: takes the tokenizer, or of a generative task the `TextGenerator`, then the options of the manifest by name."""
    item: Callable[..., Any]
    options: type[Any]
    """A dataclass, each field of which has a default."""
    routes: tuple[Served, ...]
    """The first one is its own."""
    fields: Mapping[str, FieldSpec]
    """The item's, in the order in which a person reads them."""
    table: TableSpec
    lines: Callable[[Mapping[str, Any], Mapping[str, Any], int], Sequence[TextLine]]
    """From an item's fields, a result as JSON, and how many labels are wanted to lines for a terminal."""
    native: NativeItems
    output: OutputSpec = OutputSpec()
    playground: Path | None = None
    """A JavaScript module: `app/api/static/playground/README.md` says what it exports."""
    hugging_face: HuggingFaceCodec | None = None
    open_inference: OpenInferenceCodec | None = None
    text_embeddings: TextEmbeddingsCodec | None = None
    openai: tuple[DropInCodec, ...] = ()
    """Routes of OpenAI's API, whose requests name their model in the field `model`."""
    openai_writing: tuple[WritingCodec, ...] = ()
    """The same, of those under which texts are written, whole or as a stream."""
    libre_translate: LibreTranslateCodec | None = None
    correction: CorrectionCodec | None = None
    training: str = ""
    """`module:NAME` of its training half, which only the offline half imports; empty: it cannot be published here."""
    is_trained: bool = True
    """Whether `hooper train` trains it; else its training half only publishes models that were trained elsewhere."""
    answer_bytes: Callable[[Mapping[str, Any], Any], tuple[int, int]] = lambda task_options, options: (0, 0)
    """From the manifest's task options and the request's own to the bytes that the answer to one item has at most, and those
    for each token read of it, of a task whose answers are long whatever is asked; 0: they are as short as their items."""
    distribution: str = DISTRIBUTION
    """The installed package that brings it."""

    def build(
        self,
        tokenizer: Tokenizer,
        task_options: Mapping[str, Any],
        decoder: Decoder | None = None,
        target: Tokenizer | None = None,
    ) -> Task[Any, Any, Any]:
        """
        Args:
            tokenizer: of what is read.
            task_options: of the manifest.
            decoder: of the manifest.
            target: of what is written, where the decoder names a tokenizer of its own.

        Raises:
            InvalidArtefact: the options of the manifest are not those of the task, or its models want a decoder, or none.
        """
        if self.is_generative != (decoder is not None):
            raise InvalidArtefact(f"a model for {self.name} has {'a' if self.is_generative else 'no'} decoder")
        first = tokenizer if decoder is None else TextGenerator(tokenizer, decoder, target)
        return self.task(first, **checked_options(self.task, task_options))

    @property
    def is_generative(self) -> bool:
        """Whether its models have a decoder: its class satisfies `Generative`, and a request may stream one item's answer."""
        return isinstance(self.task, type) and issubclass(self.task, Generative)

    @property
    def route(self) -> NativeRoute:
        return self.routes[0].route

    @property
    def is_plugin(self) -> bool:
        return self.distribution != DISTRIBUTION

    def hugging_face_for(self, parameters: Any) -> Served | None:
        """The route that a parameter of Hugging Face's protocol says is meant; None: the task's own."""
        marked = [entry for entry in self.routes if entry.hugging_face is not None]
        return next((entry for entry in marked if getattr(parameters, entry.hugging_face.mark) is not None), None)  # type: ignore[union-attr]

    @property
    def marked(self) -> Sequence[Served]:
        """The routes that an option says are meant, with tensors and of files."""
        return [entry for entry in self.routes if entry.open_inference is not None]

    def route_for(self, options: Mapping[str, Any]) -> Served | None:
        """The route that one of these options says is meant; None: the task's own."""
        return next((entry for entry in self.marked if entry.open_inference.mark in options), None)  # type: ignore[union-attr]

    def served(self, path: str) -> Served:
        """How it serves a path that is one of its routes'."""
        return next(entry for entry in self.routes if entry.route.path == path)
