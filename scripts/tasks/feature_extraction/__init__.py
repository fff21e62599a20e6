"""The offline half of feature extraction: publishing what sentence-transformers saved, and training."""

from scripts.tasks.feature_extraction.task import SPEC as SPEC
