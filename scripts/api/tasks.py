"""One name per task: `text_classifier.get_model(…)`, `text_classifier.create_trainer(…)`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from scripts.api.data import DataPart
from scripts.api.options import Model as PretrainedModel
from scripts.api.options import get_model
from scripts.api.trainer import Trainer
from scripts.tasks import abstractive_summarization as written_summaries
from scripts.tasks import extractive_summarization as summaries
from scripts.tasks import feature_extraction as embeddings
from scripts.tasks import question_answering as answers
from scripts.tasks import text2text_generation as rewriting
from scripts.tasks import text_classification as classification
from scripts.tasks import text_generation as generation
from scripts.tasks import text_ranking as ranking
from scripts.tasks import text_regression as regression
from scripts.tasks import token_classification as tags
from scripts.tasks import training_task
from scripts.tasks.abstractive_summarization import WrittenSummaryMetrics
from scripts.tasks.extractive_summarization import SummaryMetrics
from scripts.tasks.feature_extraction.task import EmbeddingMetrics
from scripts.tasks.generation.metrics import TRANSLATION, TranslationMetrics
from scripts.tasks.question_answering.task import AnswerMetrics
from scripts.tasks.text2text_generation import TextToTextMetrics
from scripts.tasks.text_classification.task import ClassificationMetrics
from scripts.tasks.text_ranking import RankingMetrics
from scripts.tasks.text_regression import RegressionMetrics
from scripts.tasks.token_classification.task import TagMetrics

M = TypeVar("M")


@dataclass(frozen=True)
class TaskApi(Generic[M]):
    """What the Python API has for one task."""

    task: str
    Figures: type[M]
    """The named tuple that `Trainer.evaluate` gives."""
    Model: ClassVar[type[PretrainedModel]] = PretrainedModel

    def get_model(self, name: str | Path = "packaged") -> PretrainedModel:
        """A pretrained model with a fast tokenizer; see `scripts.api.options.get_model`."""
        return get_model(name, self.task)

    def create_trainer(self, model: PretrainedModel, train: DataPart, val: DataPart, **options: Any) -> Trainer[M]:
        """A trainer of this model on this data, and its options; see `scripts.api.trainer.Trainer`."""
        return Trainer(self.task, self.Figures, model, train, val, options)


def task_api(task: str) -> TaskApi[Any]:
    """The API of any task, also of one that another package brings.

    Raises:
        KeyError: there is no such task.
    """
    return TaskApi(task, training_task(task).metrics_type)


text_classifier = TaskApi(classification.SPEC.name, ClassificationMetrics)
"""Texts, or pairs of them, get a label each, or any number of labels."""
text_regressor = TaskApi(regression.SPEC.name, RegressionMetrics)
"""Texts, or pairs of them, get a number each."""
question_answering = TaskApi(answers.SPEC.name, AnswerMetrics)
"""A question is answered with a span of its context."""
summarizer = TaskApi(summaries.SPEC.name, SummaryMetrics)
"""A document is summed up by its most telling sentences."""
text_ranker = TaskApi(ranking.SPEC.name, RankingMetrics)
"""Documents are ranked by how well they answer a query."""
text_embedder = TaskApi(embeddings.SPEC.name, EmbeddingMetrics)
"""Texts get vectors, of which those of texts that belong together point alike."""
token_classifier = TaskApi(tags.SPEC.name, TagMetrics)
"""Names and other entities of a text are found, with their characters."""
translator = TaskApi(TRANSLATION, TranslationMetrics)
"""Texts are written in another language."""
abstractive_summarizer = TaskApi(written_summaries.SPEC.name, WrittenSummaryMetrics)
"""A document is summed up in words of the model's own."""
text2text_generator = TaskApi(rewriting.SPEC.name, TextToTextMetrics)
"""A text is written from another: a correction, an answer, whatever the pairs show."""
text_generator = TaskApi(generation.SPEC.name, TextToTextMetrics)
"""A text is continued: prompts with their completions, or conversations."""
