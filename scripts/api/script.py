"""The Python that repeats a run, as the model card and `evaluation.json` show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.core.types import TaskName
from scripts.api.data import Data
from scripts.tasks import training_task


@dataclass(frozen=True)
class Script:
    """What was called until now."""

    task: TaskName
    model: str
    data: Data
    options: Mapping[str, Any]
    fits: tuple[str, ...] = ()
    """Each call of `fit` and `autofit`."""

    def fitted(self, epochs: float, options: Mapping[str, Any]) -> Script:
        """With one more `fit`."""
        given = "".join(f", {key}={value!r}" for key, value in options.items())
        return replace(self, fits=(*self.fits, f"fit(epochs={epochs:g}{given})"))

    def to_save(self, path: str, options: Mapping[str, Any]) -> str:
        """The calls up to this `save`."""
        module = training_task(self.task).api_module
        given = "".join(f", {key}={value!r}" for key, value in self.options.items())
        saved = "".join(f", {key}={value!r}" for key, value in options.items())
        lines = [
            f"from hooper import get_dataset, {module}",
            "",
            f"model = {module}.get_model({self.model!r})",
            f"train, val = {self.data.call}",
            f"trainer = {module}.create_trainer(model, train, val{given})",
            *(f"trainer.{fit}" for fit in self.fits),
            f"trainer.save({path!r}{saved})",
        ]
        return "\n".join(lines)
