"""`/v2`: what travels over the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from app.core.errors import InvalidInput
from app.serving.deployment import Deployment
from app.tasks.schemas import Request, documented
from app.tasks.spec import Datatype, OpenInferenceCodec, TaskSpec

EXTENSIONS = ("binary_tensor_data", "model_configuration")
Size = Annotated[int, Field(ge=0, strict=True)]


class ServerLive(BaseModel):
    """The process answers."""

    live: Annotated[Literal[True], Field(description="Whether the process answers at all.")] = True


class ServerReady(BaseModel):
    """Every model was tried, one at least is loaded, all that the settings name are, and every engine would answer."""

    live: Annotated[Literal[True], Field(description="The same as `ready`: it stands so in the text of the protocol.")] = True
    ready: Annotated[
        Literal[True],
        Field(
            description="Whether every model was tried, one at least is loaded, all that the"
            " settings name are, and every engine would answer."
        ),
    ] = True


class ServerMetadata(BaseModel):
    """What serves here."""

    name: Annotated[Literal["hooper"], Field(description="What the server calls itself.")] = "hooper"
    version: str = Field(description="Of Hooper.", examples=["0.1.0"])
    extensions: list[str] = Field(description="Extensions of the protocol that are understood.", examples=[list(EXTENSIONS)])


class ModelReady(BaseModel):
    """A model that would answer."""

    name: str = Field(description="The model's name.")
    ready: Annotated[Literal[True], Field(description="Whether its engine would answer.")] = True


class TensorMetadata(BaseModel):
    """A tensor of a model."""

    name: str = Field(description="What the tensor is called in requests and answers.")
    datatype: Datatype = Field(description="The type of its elements; `BYTES` are texts in UTF-8.")
    shape: list[int] = Field(description="Its axes; -1: of any length. The first one counts the items.")


class ModelMetadata(BaseModel):
    """A loaded model and its tensors."""

    name: str = Field(description="The model's name.")
    versions: list[str] = Field(description="The loaded versions, the main one first.")
    platform: Annotated[Literal["onnx_onnxv1"], Field(description="The protocol's word for ONNX models.")] = "onnx_onnxv1"
    inputs: list[TensorMetadata] = Field(description="Tensors that a request holds, one row per item.")
    outputs: list[TensorMetadata] = Field(description="Tensors that an answer holds, one row per item.")

    @classmethod
    def of(cls, deployment: Deployment, codec: OpenInferenceCodec, versions: Sequence[int]) -> ModelMetadata:
        return cls(
            name=deployment.manifest.name,
            versions=[str(version) for version in versions],
            inputs=[TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in codec.inputs],
            outputs=[
                TensorMetadata(name=name, datatype=datatype, shape=[-1] * codec.rank)
                for name, datatype in codec.outputs_of(deployment.manifest.task_options).items()
            ],
        )


class ConfiguredTensor(BaseModel):
    """A tensor, as the model configuration extension tells it."""

    name: str = Field(description="What the tensor is called in requests and answers.")
    data_type: Literal["TYPE_STRING", "TYPE_FP32", "TYPE_INT64", "TYPE_BOOL"] = Field(
        description="The type of its elements; strings are texts in UTF-8."
    )
    dims: list[int] = Field(description="Its axes; -1: of any length. The first one counts the items.")
    optional: Annotated[bool, Field(description="Whether a request may leave it out.")] = False


class ModelConfig(BaseModel):
    """A loaded model, as the model configuration extension tells it. `max_batch_size` 0: the first axis is not left out."""

    name: str = Field(description="The model's name.")
    platform: Annotated[Literal["onnx_onnxv1"], Field(description="The protocol's word for ONNX models.")] = "onnx_onnxv1"
    max_batch_size: Annotated[
        int,
        Field(ge=0, le=0, description="0: the number of items is the first axis of each tensor and not left out of `dims`."),
    ] = 0
    input: list[ConfiguredTensor] = Field(description="Tensors that a request holds.")
    output: list[ConfiguredTensor] = Field(description="Tensors that an answer holds.")

    @classmethod
    def of(cls, deployment: Deployment, codec: OpenInferenceCodec) -> ModelConfig:
        types: dict[Datatype, Any] = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BOOL": "TYPE_BOOL"}
        return cls(
            name=deployment.manifest.name,
            input=[
                ConfiguredTensor(name=name, data_type="TYPE_STRING", dims=[-1], optional=name in codec.optional)
                for name in (*codec.inputs, *codec.optional)
            ],
            output=[
                ConfiguredTensor(name=name, data_type=types[datatype], dims=[-1] * codec.rank)
                for name, datatype in codec.outputs_of(deployment.manifest.task_options).items()
            ],
        )


CONTENT_TYPES = frozenset({"str", "np", "pd"})
"""MLServer's names for texts, for arrays and for columns: the data of a `BYTES` tensor is the same in each."""
ELSEWHERE = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification")
"""Triton's parameters that ask for what this service does not do."""


def check_content_type(value: Any) -> None:
    """
    Raises:
        InvalidInput: the data is to be read as something other than the texts that stand there.
    """
    if not _is_of_texts(value):
        raise InvalidInput("should be 'str': texts are read as they stand", "parameters.content_type")


def _is_of_texts(content_type: Any) -> bool:
    return content_type is None or (isinstance(content_type, str) and content_type in CONTENT_TYPES)


class TensorParameters(BaseModel):
    """Parameters of a tensor. Unknown ones are ignored: clients send hints there that change nothing here."""

    @model_validator(mode="before")
    @classmethod
    def _change_nothing(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in ELSEWHERE:
                if name in value:
                    raise ValueError(f"{name} is not possible here")
            if not _is_of_texts(value.get("content_type")):
                raise ValueError("content_type should be 'str': texts are read as they stand")
        return value


class InputParameters(TensorParameters):
    """How an input's data travels."""

    binary_data_size: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Bytes behind the JSON that hold the data, each text after its length as four bytes, lowest first."
    )


class OutputParameters(TensorParameters):
    """How an output's data travels."""

    binary_data: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Behind the JSON instead of within it; null: as `binary_data_output` says for all."
    )


class RequestInput(Request):
    """A tensor of texts."""

    name: str = Field(description="As the model's metadata names it.")
    shape: Annotated[list[Size], Field(fail_fast=True)] = Field(description="`[n]`, or `[n, 1]`, for n items.")
    datatype: str = Field(description="`BYTES`, the protocol's name for texts.", examples=["BYTES"])
    data: list[Any] | None = Field(None, description="The texts; left out where they follow the JSON as bytes.")
    parameters: InputParameters | None = Field(None, description="How long its bytes are, where they follow the JSON.")


class RequestOutput(Request):
    """A tensor that is wanted."""

    name: str = Field(description="As the model's metadata names it.")
    parameters: OutputParameters | None = Field(None, description="How it is sent.")


class InferRequest(Request):
    """Items as tensors: one row of each input per item."""

    id: str | None = Field(None, description="Comes back with the answer.")
    inputs: Annotated[list[RequestInput], Field(fail_fast=True)] = Field(
        description="The tensors that the model's metadata names, one row per item."
    )
    outputs: Annotated[list[RequestOutput], Field(fail_fast=True)] | None = Field(
        None, description="The tensors that are wanted; null: all of them."
    )
    parameters: dict[str, Any] | None = Field(None, description="The options of the native route for the model's task.")


def infer_request(specs: Sequence[TaskSpec]) -> type[InferRequest]:
    """The request as it is documented: with the native routes of all tasks and an example of each."""
    codecs = [(spec, spec.open_inference) for spec in specs if spec.open_inference is not None]
    routes = dict.fromkeys(f"`/{spec.route.path}`{_but_for(codec.excluded)}" for spec, codec in codecs)
    described = (
        f"The options of the native route for the model's task ({', '.join(routes)}); `binary_data_output`: all outputs behind"
        " the JSON; `timeout`: microseconds after which the answer is no longer wanted."
    )
    examples = {codec.example.model: codec.example.value for _, codec in codecs}  # tasks may share one
    parameters = (dict[str, Any] | None, Field(None, description=described))
    return documented(InferRequest, list(examples.values()), parameters=parameters)


def _but_for(names: Sequence[str]) -> str:
    return f" but for {', '.join(f'`{name}`' for name in names)}" if names else ""


class ResponseOutput(BaseModel):
    """A tensor of the answer."""

    name: str = Field(description="As the model's metadata names it.")
    datatype: Datatype = Field(description="The type of its elements; `BYTES` are texts in UTF-8.")
    shape: list[int] = Field(description="Its axes: items, then labels where there are several per item.")
    data: list[Any] | None = Field(None, description="Row after row in one list; left out where it follows the JSON as bytes.")
    parameters: dict[str, int] | None = Field(None, description="`binary_data_size`, where the data follows the JSON as bytes.")


class InferResponse(BaseModel):
    """The answer to an inference request."""

    model_name: str = Field(description="The model that answered.")
    model_version: str = Field(description="Its version.")
    id: str | None = Field(None, description="That of the request, if it had one.")
    parameters: dict[str, int] = Field(
        description="`num_tokens` that the model read, and `num_truncated` items that were cut.",
        examples=[{"num_tokens": 11, "num_truncated": 0}],
    )
    outputs: list[ResponseOutput] = Field(description="The tensors that were wanted, in their order.")
