"""Vectors in the words of other protocols."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from app.core.errors import EmptyBatch
from app.tasks.base import Result
from app.tasks.feature_extraction.protocols import (
    HUGGING_FACE,
    OPEN_INFERENCE,
    ComparedSentences,
    OpenAIEmbeddingsRequest,
    SimilarityRequest,
    TextEmbeddingsEmbedRequest,
)
from app.tasks.feature_extraction.task import Embedding, EmbedItem, EmbedOptions, Similarities, SimilarityItem

VECTOR = [0.6, -0.8]


def result(encoding: Any = "float") -> Result:
    return Result(Embedding(VECTOR, encoding), 5, False)


def similarities(*scores: float) -> Result:
    return Result(Similarities(list(scores), np.zeros((1 + len(scores), 2))), 9, False)


FORMS = [
    ("a", [EmbedItem("a")], "NAME"),
    (["a"], [EmbedItem("a")], "NAME.0"),
    (["a", "b"], [EmbedItem("a"), EmbedItem("b")], "NAME.0"),
    ([1, 2], [EmbedItem("", (1, 2))], "NAME"),
    ([[1, 2], [3]], [EmbedItem("", (1, 2)), EmbedItem("", (3,))], "NAME.0"),
]


@pytest.mark.parametrize(("inputs", "items", "place"), FORMS)
def test_a_list_of_integers_is_one_text(inputs: Any, items: list[EmbedItem], place: str) -> None:
    openai = OpenAIEmbeddingsRequest.model_validate({"input": inputs})
    assert openai.items() == items
    assert openai.place(0, "text") == place.replace("NAME", "input")
    assert openai.place(0, "dimensions") == "dimensions"
    tei = TextEmbeddingsEmbedRequest.model_validate({"inputs": inputs})
    assert tei.items() == items
    assert tei.place(0, "text") == place.replace("NAME", "inputs")


@pytest.mark.parametrize("inputs", [7, None, [7.5], [True], [["a"]], ["a", 1], {"text": "a"}, [[]], [-1]])
def test_other_inputs_are_refused_in_one_sentence(inputs: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        OpenAIEmbeddingsRequest.model_validate({"input": inputs})
    (error,) = caught.value.errors()
    assert "should be a text, a list of texts, the token ids of one text, or a list of such lists" in error["msg"]


def test_an_empty_list_has_no_text() -> None:
    with pytest.raises(EmptyBatch):
        OpenAIEmbeddingsRequest.model_validate({"input": []}).items()


def test_openai_answers_in_base64_of_little_endian_float32() -> None:
    request = OpenAIEmbeddingsRequest.model_validate({"input": "a", "encoding_format": "base64"})
    assert request.options().vector_encoding == "base64"
    answer = request.shaped([result("base64")], "embed/1").model_dump()
    assert np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4").tolist() == pytest.approx(VECTOR)
    assert (answer["object"], answer["model"]) == ("list", "embed/1")
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValidationError, match="encoding_format"):
        OpenAIEmbeddingsRequest.model_validate({"input": "a", "encoding_format": "int8"})


def test_text_embeddings_inference_refuses_a_long_text_unless_it_may_cut_it() -> None:
    request = TextEmbeddingsEmbedRequest.model_validate({"inputs": "a"})
    assert request.options() == EmbedOptions(truncation="error")
    cut = {"inputs": "a", "truncate": True, "truncation_direction": "left", "normalize": False, "prompt_name": "query"}
    wished = EmbedOptions(normalize=False, prompt_name="query", truncation="truncate", truncation_side="left")
    assert TextEmbeddingsEmbedRequest.model_validate(cut).options() == wished
    assert request.shaped([result()], "embed") == [VECTOR]


def test_text_embeddings_inference_compares_sentences_with_one() -> None:
    body = {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}, "parameters": {"truncate": True}}
    request = SimilarityRequest.model_validate(body)
    assert request.items() == [SimilarityItem("a", ("b", "c"))]
    assert request.options().truncation == "truncate"
    assert request.place(0, "sentences.1") == "inputs.sentences.1"
    assert request.place(0, "prompt_name") == "parameters.prompt_name"
    assert request.shaped([similarities(0.5, 0.25)], "embed") == [0.5, 0.25]


def test_hugging_face_takes_a_text_or_compared_sentences() -> None:
    assert HUGGING_FACE.item("a") == EmbedItem("a")
    compared = ComparedSentences(source_sentence="a", sentences=["b"])
    assert HUGGING_FACE.item(compared) == SimilarityItem("a", ("b",))
    assert HUGGING_FACE.item(7) is None


def test_hugging_faces_own_clients_read_a_list_of_vectors_but_similarities_as_they_are() -> None:
    assert HUGGING_FACE.for_hub_client(HUGGING_FACE.answer(result()), None) == [VECTOR]
    assert list(HUGGING_FACE.for_hub_client(HUGGING_FACE.answer(similarities(0.5)), None)) == [0.5]


def test_tensors_have_a_row_for_each_text() -> None:
    assert OPEN_INFERENCE.columns([result(), result()]) == ({"embedding": [*VECTOR, *VECTOR]}, [2, 2])
