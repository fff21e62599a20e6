"""The methods of the built-in tasks' routes. Made by `make client-methods`: change the tasks, not this file."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Literal, overload

from app.api.protocols.envelope import FailedItem
from app.api.protocols.results import ExplainResult, FeedbackResult
from app.tasks.extractive_summarization.schemas import SummarizeResult
from app.tasks.feature_extraction.schemas import EmbedResult
from app.tasks.fill_mask.schemas import FillResult
from app.tasks.question_answering.schemas import AnswerResult
from app.tasks.text_classification.schemas import ClassifyResult
from app.tasks.text_ranking.schemas import RankedDocument
from app.tasks.token_classification.schemas import TagResult
from app.tasks.zero_shot_classification.schemas import ZeroShotResult
from hooper.client.results import AnswerList

class Methods:
    @overload
    def classify(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ClassifyResult]: ...
    @overload
    def classify(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ClassifyResult | FailedItem]: ...
    def classify_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[ClassifyResult | FailedItem]: ...
    @overload
    def zero_shot(
        self,
        inputs: Any,
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ZeroShotResult]: ...
    @overload
    def zero_shot(
        self,
        inputs: Any,
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ZeroShotResult | FailedItem]: ...
    def zero_shot_many(
        self,
        inputs: Iterable[Any],
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[ZeroShotResult | FailedItem]: ...
    @overload
    def answer(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[AnswerResult]: ...
    @overload
    def answer(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[AnswerResult | FailedItem]: ...
    def answer_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[AnswerResult | FailedItem]: ...
    @overload
    def summarize(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[SummarizeResult]: ...
    @overload
    def summarize(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[SummarizeResult | FailedItem]: ...
    def summarize_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[SummarizeResult | FailedItem]: ...
    @overload
    def tag(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[TagResult]: ...
    @overload
    def tag(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[TagResult | FailedItem]: ...
    def tag_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[TagResult | FailedItem]: ...
    @overload
    def rerank(
        self,
        documents: Any,
        *,
        query: str,
        model: str | None = None,
        top_n: int | None = None,
        return_documents: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[RankedDocument]: ...
    @overload
    def rerank(
        self,
        documents: Any,
        *,
        query: str,
        model: str | None = None,
        top_n: int | None = None,
        return_documents: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[RankedDocument | FailedItem]: ...
    @overload
    def embed(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[EmbedResult]: ...
    @overload
    def embed(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[EmbedResult | FailedItem]: ...
    def embed_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[EmbedResult | FailedItem]: ...
    @overload
    def fill(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FillResult]: ...
    @overload
    def fill(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FillResult | FailedItem]: ...
    def fill_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[FillResult | FailedItem]: ...
    @overload
    def explain(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ExplainResult]: ...
    @overload
    def explain(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ExplainResult | FailedItem]: ...
    def explain_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[ExplainResult | FailedItem]: ...
    @overload
    def feedback(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FeedbackResult]: ...
    @overload
    def feedback(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FeedbackResult | FailedItem]: ...
    def feedback_many(
        self,
        inputs: Iterable[Any],
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> Iterator[FeedbackResult | FailedItem]: ...

class AsyncMethods:
    @overload
    async def classify(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ClassifyResult]: ...
    @overload
    async def classify(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ClassifyResult | FailedItem]: ...
    def classify_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        top_k: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        threshold: float | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[ClassifyResult | FailedItem]: ...
    @overload
    async def zero_shot(
        self,
        inputs: Any,
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ZeroShotResult]: ...
    @overload
    async def zero_shot(
        self,
        inputs: Any,
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ZeroShotResult | FailedItem]: ...
    def zero_shot_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        labels: str | list[str] | None = None,
        model: str | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[ZeroShotResult | FailedItem]: ...
    @overload
    async def answer(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[AnswerResult]: ...
    @overload
    async def answer(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[AnswerResult | FailedItem]: ...
    def answer_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 30,
        align_to_words: bool = True,
        allow_no_answer: bool = False,
        stride: int = 128,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[AnswerResult | FailedItem]: ...
    @overload
    async def summarize(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[SummarizeResult]: ...
    @overload
    async def summarize(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[SummarizeResult | FailedItem]: ...
    def summarize_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        method: Literal["extractive", "abstractive"] | None = None,
        max_sentences: int = 3,
        min_sentences: int = 1,
        truncation: Literal["error", "truncate", "window"] = "window",
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[SummarizeResult | FailedItem]: ...
    @overload
    async def tag(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[TagResult]: ...
    @overload
    async def tag(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[TagResult | FailedItem]: ...
    def tag_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        aggregation: Literal["none", "simple", "first", "average", "max"] = "first",
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[TagResult | FailedItem]: ...
    @overload
    async def rerank(
        self,
        documents: Any,
        *,
        query: str,
        model: str | None = None,
        top_n: int | None = None,
        return_documents: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[RankedDocument]: ...
    @overload
    async def rerank(
        self,
        documents: Any,
        *,
        query: str,
        model: str | None = None,
        top_n: int | None = None,
        return_documents: bool = False,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[RankedDocument | FailedItem]: ...
    @overload
    async def embed(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[EmbedResult]: ...
    @overload
    async def embed(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[EmbedResult | FailedItem]: ...
    def embed_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        encoding: Literal["float", "base64"] = "float",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[EmbedResult | FailedItem]: ...
    @overload
    async def fill(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FillResult]: ...
    @overload
    async def fill(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FillResult | FailedItem]: ...
    def fill_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        top_k: int = 5,
        targets: list[str] | None = None,
        truncation: Literal["error", "truncate", "window"] = "window",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[FillResult | FailedItem]: ...
    @overload
    async def explain(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ExplainResult]: ...
    @overload
    async def explain(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[ExplainResult | FailedItem]: ...
    def explain_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        target: str | None = None,
        method: Literal["shapley", "occlusion"] | None = None,
        budget: int = 4096,
        truncation: Literal["error", "truncate", "window"] | None = None,
        language: str | None = None,
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[ExplainResult | FailedItem]: ...
    @overload
    async def feedback(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["raise"],
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FeedbackResult]: ...
    @overload
    async def feedback(
        self,
        inputs: Any,
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AnswerList[FeedbackResult | FailedItem]: ...
    def feedback_many(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        model: str | None = None,
        allow_new_labels: bool = False,
        request_id: str | None = None,
        source: str = "",
        comment: str = "",
        errors: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        total_timeout: float | None = None,
        priority: Literal["interactive", "bulk"] | None = None,
    ) -> AsyncIterator[FeedbackResult | FailedItem]: ...
