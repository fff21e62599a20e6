"""The training half of token classification."""

from scripts.tasks.token_classification.task import SPEC as SPEC
