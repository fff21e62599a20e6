"""A published model in this process: loaded and asked as the service does it, without a server and without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from app.cli.local_model import LocalModel, ModelChoice, ModelRequest, opened
from app.core.errors import InvalidInput
from app.data import Input
from app.settings import Settings

Fields = str | Mapping[str, str]
"""An item: a text, or its fields by name."""


class LoadedModel:
    """A loaded model. It has a thread of its own, so that it can be asked from a notebook, whose event loop runs already."""

    def __init__(self, request: ModelRequest) -> None:
        """
        Raises:
            InvalidArtefact, ProviderUnavailable: it cannot be loaded.
        """
        self._request = request
        self._resources = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hooper-model")
        try:
            self._model: LocalModel = self._thread.submit(self._resources.enter_context, opened(request)).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @property
    def name(self) -> str:
        """Its name and version: `sentiment/1`."""
        return self._request.artefact.id

    @property
    def task(self) -> str:
        return self._request.artefact.manifest.task

    def predict(
        self, inputs: str | Mapping[str, str] | Sequence[str | Mapping[str, str]], **options: Any
    ) -> list[dict[str, Any]]:
        """Answers in the order of the inputs, as `results` of the service's own routes.

        Args:
            inputs: texts or, where the task's items have several fields, mappings such as `{"question": …, "context": …}`.
            options: of the request, by the names that the service has for them, such as `top_k`.

        Returns:
            For each input its result, or `{"error": …}` where it cannot be answered.

        Raises:
            InvalidSettings: an option is not one of the task's, or its value is refused.
            InvalidInput: an input is neither a text nor a mapping.
        """
        items = [inputs] if isinstance(inputs, str | Mapping) else list(inputs)
        rows = [Input("inputs", number, self._fields(item)) for number, item in enumerate(items, start=1)]
        return self._thread.submit(self._model.answer, rows, options).result()

    def close(self) -> None:
        """Give back its memory; it cannot be asked afterwards."""
        self._thread.submit(self._resources.close).result()
        self._thread.shutdown()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.task}>"

    def _fields(self, item: Any) -> Mapping[str, str]:
        if isinstance(item, str):
            return {self._request.schema.text_field: item}
        if isinstance(item, Mapping):
            return item
        raise InvalidInput(f"an input must be a text or a mapping of fields, not {type(item).__name__}")


def load(model: str | Path, *, models: str | Path | None = None, **settings: Any) -> LoadedModel:
    """Load a published model.

    Args:
        model: `name`, `name/version`, or the path of a published folder.
        models: the model repository; None: HOOPER_MODELS, or `models`.
        settings: of the service, such as `device` or `num_threads`; by default as the environment has them.

    Raises:
        UnknownModel, InvalidArtefact: there is no such model, or its folder is broken or altered.
        InvalidSettings: a setting is unknown or its value is refused.
        ProviderUnavailable: the device is not available.
    """
    values = {"models": Path(models), **settings} if models is not None else settings
    return LoadedModel(ModelChoice(str(model)).request("predict", {}, Settings(**values)))
