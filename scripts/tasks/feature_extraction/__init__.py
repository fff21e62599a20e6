"""The offline half of feature extraction: publishing what sentence-transformers saved, and its agreement with PyTorch."""

from scripts.tasks.feature_extraction.task import SPEC as SPEC
