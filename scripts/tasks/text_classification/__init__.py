"""Text classification offline: guessed columns, label sets, metrics per class."""

from scripts.tasks.text_classification.task import SPEC as SPEC
