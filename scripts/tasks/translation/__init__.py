"""Translation offline: checkpoints that translate, and training on pairs of texts."""

from scripts.tasks.translation.task import SPEC as SPEC
