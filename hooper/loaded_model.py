"""A published model in this process: loaded and asked as the service does it, without a server and without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, get_args, overload
from weakref import WeakSet

import numpy as np

from app.cli.local_model import LocalModel, ModelChoice, ModelRequest, opened
from app.cli.pipeline import MAX_CHARACTERS, chunks, in_order
from app.core.errors import HooperError, InvalidSettings
from app.data import Input
from app.settings import Settings
from hooper.errors import ItemsFailed
from hooper.inputs import Entry, read_inputs
from hooper.tables import array_of, frame_of, vectors_of

T = TypeVar("T")
Form = Literal["objects", "pandas", "numpy"]
OnError = Literal["return", "raise"]
CHUNK = 1024
"""Items that are ordered by length together."""


class LoadedModel:
    """A loaded model. It has a thread of its own, so that it can be asked from a notebook, whose event loop runs already, and
    from several threads."""

    def __init__(self, request: ModelRequest) -> None:
        """
        Raises:
            InvalidArtefact, ProviderUnavailable: it cannot be loaded.
        """
        self._request, self._is_closed = request, False
        self._resources = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hooper-model")
        try:
            self._model: LocalModel = self._thread.submit(self._resources.enter_context, opened(request)).result()
        except BaseException:
            self._thread.shutdown()
            raise
        _OPEN.add(self)

    @property
    def name(self) -> str:
        """Its name and version: `sentiment/1`."""
        return self._request.artefact.id

    @property
    def task(self) -> str:
        return self._request.artefact.manifest.task

    @property
    def labels(self) -> list[str]:
        """Of a model that chooses among labels, all of them, in its own order; else none."""
        request = self._request
        has_labels = request.spec.output.num_features == 0 and "label" in request.spec.table.per_rank  # an output for each
        return list(request.artefact.manifest.task_options.get("labels", ())) if has_labels else []

    @overload
    def predict(
        self, inputs: Any, *, as_: Literal["objects"], errors: OnError = "return", **options: Any
    ) -> list[dict[str, Any]]: ...

    @overload
    def predict(
        self, inputs: Any, *, as_: Literal["pandas", "numpy"] | None = None, errors: OnError = "return", **options: Any
    ) -> Any: ...

    def predict(self, inputs: Any, *, as_: Form | None = None, errors: OnError = "return", **options: Any) -> Any:
        """Answers in the order of the inputs, the same as the service gives.

        Args:
            inputs: a text; a mapping of fields such as `{"question": …, "context": …}`, or of the columns that the model
                was trained on; or many of them: a list, an iterable, an array of numpy, a column or a data frame, whose
                columns are matched as those of files are.
            as_: `objects`: for each input its result, as the service writes it, or `{"error": …}` in its place;
                `pandas`: a data frame with the columns that `hooper batch` writes, and the index of the inputs; `numpy`: the
                same columns as a structured array, or of a model that gives vectors those alone, (inputs, numbers) in
                float32. None: vectors as `numpy`, other answers as `objects`.
            errors: `return`: an input that cannot be answered, as None or NaN, has its error in its place;
                `raise`: the call raises.
            options: of the request, by the names that the service has for them, such as `top_k`.

        Raises:
            InvalidSettings: an option is not one of the task's, or its value is refused.
            InvalidInput: the inputs are none.
            ItemsFailed: an input cannot be answered, and `errors` is `raise`.
        """
        table = replace(self._request, options=options).table
        as_ = as_ or ("numpy" if table.vector else "objects")
        if as_ not in get_args(Form):
            raise InvalidSettings(f"as_ must be one of {', '.join(get_args(Form))}, not {as_!r}")
        if errors not in get_args(OnError):
            raise InvalidSettings(f"errors must be one of {', '.join(get_args(OnError))}, not {errors!r}")
        given = read_inputs(inputs, self._request.schema)
        results = self._on_thread(self._answer, given.listed(), options)
        failed = [(number, result["error"]["detail"]) for number, result in enumerate(results) if "error" in result]
        if failed and errors == "raise":
            raise ItemsFailed.of(failed, results)
        if as_ == "objects":
            return results
        if as_ == "numpy" and table.vector:
            return vectors_of(results, table.vector)
        num_ranks = options.get("top_k") or 1
        joined = table.joined(self._request.artefact.manifest.task_options)
        if as_ == "numpy":
            return array_of(results, table, num_ranks, joined)
        return frame_of(results, table, num_ranks, given.index, joined)

    def predict_proba(self, inputs: Any, *, errors: OnError = "return", **options: Any) -> np.ndarray:
        """Scores of all labels: (inputs, labels), columns in the order of `labels`. Where an input cannot be answered they are
        NaN, or it is raised.

        Raises:
            InvalidSettings: the model has no labels to choose from, and as for `predict`.
        """
        if not self.labels:
            raise InvalidSettings(f"{self.name} does {self.task}, and has no probabilities of labels; ask predict")
        ranked = self._request.spec.table.ranked
        columns = {label: number for number, label in enumerate(self.labels)}
        results = self.predict(inputs, errors=errors, **options)
        scores = np.full((len(results), len(columns)), np.nan)
        for row, result in enumerate(results):
            for entry in result.get(ranked, ()):
                scores[row, columns[entry["label"]]] = entry["score"]
        return scores

    def close(self) -> None:
        """Give back its memory; it cannot be asked afterwards."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._resources.close).result()
            self._thread.shutdown()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.task}>"

    def _on_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._is_closed:
            raise InvalidSettings(f"{self.name} is closed; load it again")
        return self._thread.submit(function, *arguments).result()

    def _answer(self, entries: Sequence[Entry], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """On the model's own thread, in chunks of which a few are under way."""
        model = self._model.with_options(options, str) if options else self._model
        rows = (self._row(number, entry) for number, entry in enumerate(entries, start=1))
        waiting = chunks(rows, CHUNK, MAX_CHARACTERS)

        async def answer_all() -> list[dict[str, Any]]:
            results: list[dict[str, Any]] = []
            async for _, answers in in_order(lambda: next(waiting, []), model.answers):
                results += answers
            return results

        return self._model.runner.run(answer_all())

    def _row(self, number: int, entry: Entry) -> Input:
        fields: Mapping[str, Any] | HooperError = {self._request.schema.text_field: entry} if isinstance(entry, str) else entry
        size = sum(len(str(text)) for text in fields.values()) if isinstance(fields, Mapping) else 0
        return Input("inputs", number, fields, num_characters=size)


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
    return LoadedModel(ModelChoice(str(model)).request("bulk", {}, Settings(**values)))


_OPEN: WeakSet[LoadedModel] = WeakSet()


def _close_all() -> None:
    for model in list(_OPEN):
        model.close()


# A script need not close its model. Once the interpreter ends, no thread starts any more, and closing would wait for one for
# ever; `atexit` runs after the threads of executors have ended. This runs before both, as concurrent.futures' own hook does.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
