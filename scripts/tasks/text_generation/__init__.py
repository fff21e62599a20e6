"""Text generation offline: checkpoints that continue a text, and training on prompts and conversations."""

from scripts.tasks.text_generation.task import SPEC as SPEC
