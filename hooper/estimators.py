"""`TextClassifier` and `TextRegressor`: training in the manner of scikit-learn, and publishing what was trained.

They follow its contract (`get_params`, `set_params`, `clone`, `fit` that begins anew), so that cross-validation, searches and
pipelines take them. What a key means is what it means for `hooper train`.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError

from app.core.errors import InvalidSettings
from app.data import Record
from app.data.cells import plain
from app.tasks.tokenizer import Tokenizer
from hooper.examples import labels_of, texts_of
from scripts.export.formatting import say
from scripts.export.torch_reference import TorchRunner
from scripts.tasks import text_classification, text_regression
from scripts.tasks.spec import Prepared, TrainingTask
from scripts.tasks.text_classification.labels import MULTI
from scripts.training.bars import quiet
from scripts.training.data import Example, normalized
from scripts.training.evaluation import predict
from scripts.training.pipeline import Pipeline
from scripts.training.pretrained import BaseModel, Start, find_start
from scripts.training.publication import Trained
from scripts.training.recipe import FIELDS, WRITING, Recipe, recipe_of
from scripts.training.run_folder import Interrupted

DATA, HELD_OUT = "X", "X of save"
"""What the rows are called, in cards and errors."""
LABEL_COLUMN = "label"
ELSEWHERE = frozenset(
    {
        "name", "task", "data", "validation", "from_feedback", "repeat", "models", "label_column", "label_separator",
        "problem_type", "minus_one", "max_bad_share", "encoding", "delimiter", "sheet", "serve_anyway",
    }
)  # fmt: skip
"""Recipe keys that `fit` and `save` are given otherwise, or that are about files."""
OWN: Mapping[str, Any] = {"split": 1.0, "runs": None, "warm_start": False, "verbose": False}
"""Parameters that are no keys, or have another default here: `fit` learns from every row, and leaves nothing behind."""


def _defaults() -> dict[str, Any]:
    keys = {name: field for name, field in FIELDS.items() if name not in ELSEWHERE and name not in WRITING}
    defaults = {
        name: None if field.default is dataclasses.MISSING else field.default  # a list: None stands for the recipe's
        for name, field in keys.items()
    }
    return {**defaults, **OWN}


@dataclass(frozen=True)
class Fitted:
    """What training came to."""

    trained: Trained
    prepared: Prepared
    task_options: Mapping[str, Any]
    """Of the serving task; calibrated where rows were held out."""
    has_rows: bool = True
    """Whether the rows that were trained on are still there: they are no part of a pickle."""


class TextEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share."""

    _training: ClassVar[TrainingTask]
    _fitted: Fitted | None

    def __init__(self, **parameters: Any) -> None:
        """
        Args:
            parameters: keys of a recipe, as in `hooper train --help` with `_` for `-`: `base_model`, `epochs`, `batch_size`,
                `learning_rate`, `max_tokens`, `seed`, …; and

                - `split` (1.0): share of the rows that is trained on; what is held out is what `save` measures.
                - `warm_start` (False): `fit` goes on with what the last one came to, and does not begin anew.
                - `runs` (None): the folder that keeps checkpoints and reports; None: one that is removed after training.
                - `verbose` (False): whether each stage is printed, with a bar.

        Raises:
            InvalidSettings: a parameter is none.
        """
        defaults = _defaults()
        self._check_names(parameters, defaults)
        for name, default in defaults.items():
            setattr(self, name, parameters.get(name, default))

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted(_defaults())

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters; they count from the next `fit` on.

        Raises:
            InvalidSettings: a parameter is none.
        """
        self._check_names(parameters, _defaults())
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any, **options: Any) -> Self:  # noqa: N803 - as scikit-learn calls it
        """Fine-tune on texts, or pairs of them, and what is right about each.

        Args:
            X: texts in a list, an array of numpy, a column; pairs as an array of two columns; or a data frame, whose columns
                are matched as those of files are.
            y: see the class.
            options: none yet; `sample_weight` is refused.

        Raises:
            InvalidSettings: a parameter is refused, or X and y do not fit each other or the task.
            InvalidInput: a row cannot be read.
        """
        if "sample_weight" in options:
            raise InvalidSettings("fit takes no sample_weight; weigh labels by class_weights, or repeat rows")
        if options:
            raise InvalidSettings(f"fit takes X and y, and no {next(iter(options))}")
        try:
            self._fit(self._records(X, y, DATA))
        except Interrupted as stop:  # which a search would take for a bad set of parameters
            raise KeyboardInterrupt("training was stopped") from stop
        return self

    def _fit(self, records: list[Record]) -> None:
        before = getattr(self, "_fitted", None) if self.warm_start else None
        with self._run_folder() as runs, self._loudness():
            pipeline = self._pipeline(runs)
            prepared = pipeline.load({DATA: records})
            if before is not None:
                prepared = self._as_before(prepared, before)
            self._note_classes(pipeline.recipe, prepared)
            with self._start(pipeline.recipe, before) as start:
                prepared = pipeline.without_known_rows(prepared, start.base, self._records_of_runs)
                trained = pipeline.train(prepared, resume=False, start=start)
            base = trained.base if before is None else before.trained.base
            trained = replace(trained, base=base)
            options_now = prepared.task_options
            if prepared.dataset.validation:
                options_now = dict(pipeline.evaluate(prepared, trained).task_options)
        self._fitted = Fitted(trained, prepared, options_now)

    def save(self, path: str | Path, X: Any = None, y: Any = None, **options: Any) -> Path:  # noqa: N803
        """Export, verify and publish as the next version in this folder, through the same gate as `hooper train`;
        `hooper serve --model PATH` serves it, and `hooper.load(PATH)` opens it.

        Args:
            path: the model's folder; its last part is the model's name.
            X, y: rows that training has not seen, for the figures of the card; not needed where `split` held some out.
            options: keys of a recipe that are about publishing: `storage`, `description`, `license`, `limits`, `golden`.

        Returns:
            The version's folder, `path/<version>`.

        Raises:
            InvalidSettings: there are no such rows, or the name cannot be a model's.
            ParityFailed: the graph does not answer as the trained model does; nothing is published.
        """
        from scripts.api.options import publishing_values

        fitted = self._needed()
        if not fitted.has_rows:
            raise InvalidSettings("it was unpickled, and a pickle keeps no rows, which the card describes; save it before")
        folder = Path(path).expanduser()
        with self._run_folder() as runs, self._loudness():
            pipeline = self._pipeline(runs, publishing_values(options), folder, self._script(str(path), X is not None, options))
            prepared = fitted.prepared
            if X is not None:
                prepared = self._held_out(pipeline.recipe, prepared, X, y)
                prepared = pipeline.without_known_rows(prepared, fitted.trained.base, self._records_of_runs)
            if not prepared.dataset.validation:
                raise InvalidSettings(
                    "save needs rows that training has not seen, for the figures of the card: save(path, X_test, y_test), or"
                    " have fit hold some out with split=0.8"
                )
            reference = pipeline.evaluate(prepared, fitted.trained)
            return pipeline.export(prepared, fitted.trained, reference).folder

    def publish(self, name: str, X: Any = None, y: Any = None, *, models: str | Path | None = None, **options: Any) -> Path:  # noqa: N803
        """`save` into the model repository.

        Args:
            name: the model's.
            X, y, options: as for `save`.
            models: the repository; None: HOOPER_MODELS, or `models`.
        """
        return self.save(Path(models or os.environ.get("HOOPER_MODELS") or "models") / name, X, y, **options)

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_fitted", None) is not None

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and joblib: the model, and none of the rows that it was trained on."""
        state = dict(self.__dict__)
        fitted = state.get("_fitted")
        if fitted is not None:
            bare = replace(
                fitted.prepared, dataset=replace(fitted.prepared.dataset, train=(), validation=(), broken=()), notes=()
            )
            state["_fitted"] = replace(fitted, prepared=bare, has_rows=False)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.non_deterministic = True  # threads add in another order
        return tags

    # what the tasks say

    def _cells(self, y: Any) -> list[Any]:
        """Of each row what stands in the column of the label."""
        raise NotImplementedError

    def _label_values(self) -> dict[str, Any]:
        """Recipe keys that follow from y."""
        return {}

    def _note_classes(self, recipe: Recipe, prepared: Prepared) -> None:
        """What the model's labels are in y."""

    # shared

    def _check_names(self, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        unknown = next((name for name in parameters if name not in defaults), None)
        if unknown in ELSEWHERE:
            raise InvalidSettings(f"{type(self).__name__} takes no {unknown}: fit and save are given what it says")
        if unknown is not None:
            raise InvalidSettings(f"{type(self).__name__} takes no {unknown!r}; it takes {', '.join(defaults)}")

    def _pipeline(
        self, runs: Path, values: Mapping[str, Any] | None = None, folder: Path = Path("models/model"), script: str = ""
    ) -> Pipeline:
        named = {name: getattr(self, name) for name in _defaults() if name not in OWN}
        # scikit-learn's searches bring numbers of numpy
        named = {name: plain(value) for name, value in named.items() if value is not None}
        split = plain(self.split)
        if not isinstance(split, int | float) or not 0 < split <= 1:
            raise InvalidSettings(f"split must be above 0 and at most 1, not {split!r}")
        recipe = recipe_of(
            {
                **named, **self._label_values(), "task": self._training.name, "data": [DATA], "label_column": LABEL_COLUMN,
                "runs": str(runs), "name": folder.name, "models": str(folder.parent), **(values or {}),
            }
        )  # fmt: skip
        # the command refuses a split of 1, since it publishes; here that may come later, on rows that come with it
        return Pipeline(replace(recipe, split=float(split), max_bad_share=0.0), None, say if self.verbose else _silent, script)

    def _records(self, X: Any, y: Any, source: str) -> list[Record]:  # noqa: N803
        texts = self._texts(X)
        if y is None:
            raise InvalidSettings(f"{type(self).__name__} learns from examples: y is needed")
        cells = self._cells(y)
        if len(texts) != len(cells):
            raise InvalidSettings(f"X has {len(texts):,} rows, and y has {len(cells):,}")
        if not texts:
            raise InvalidSettings("X has no rows")
        rows = zip(texts, cells, strict=True)
        return [Record(f"{source}[{number}]", {**fields, LABEL_COLUMN: cell}) for number, (fields, cell) in enumerate(rows)]

    def _texts(self, X: Any) -> list[dict[str, str]]:  # noqa: N803
        return texts_of(X, self._training.fields, self.text_column)

    def _answers(self, X: Any) -> list[Any]:  # noqa: N803
        """The model's answers, through the code of the service."""
        fitted = self._needed()
        items = [self._training.item(fields) for fields in self._texts(X)]
        tokenizer = Tokenizer(fitted.trained.tokenizer, fitted.trained.max_tokens)
        task = self._training.serving_task(tokenizer, fitted.task_options)
        runner = TorchRunner(fitted.trained.model, self._training.output_axis)
        with self._loudness():
            return list(predict(task, self._training.serving_options(), items, runner, "predicting").answers)

    def _held_out(self, recipe: Recipe, prepared: Prepared, X: Any, y: Any) -> Prepared:  # noqa: N803
        """With these rows as those that are held out; such as were trained on are left out."""
        records = self._records(X, y, HELD_OUT)
        parse = self._training.labelled_parser(recipe, {HELD_OUT: records}, prepared.task_options)
        seen = {normalized(example.item) for example in prepared.dataset.train}
        examples, num_seen = [], 0
        for record in records:
            example = parse(record, HELD_OUT)
            if not isinstance(example, Example):
                raise InvalidSettings(f"{example.where}: {example.why}")
            num_seen += normalized(example.item) in seen
            if normalized(example.item) not in seen:
                examples.append(example)
        if not examples:
            raise InvalidSettings("all rows that save was given were trained on; give it others")
        notes = [f"{num_seen:,} rows left out of the held-out ones: they were trained on"] if num_seen else []
        dataset = replace(prepared.dataset, validation=examples)
        return replace(prepared, dataset=dataset, notes=[*prepared.notes, *notes])

    def _as_before(self, prepared: Prepared, before: Fitted) -> Prepared:
        """Rows for a model that has its labels and its scale already."""
        now, then = prepared.task_options.get("labels"), before.prepared.task_options.get("labels")
        if now != then:
            raise InvalidSettings(
                f"warm_start goes on with the labels {_named(then)}, and y has {_named(now)}; fit begins anew with"
                " warm_start=False"
            )
        return replace(prepared, task_options=dict(before.prepared.task_options))

    @contextmanager
    def _start(self, recipe: Recipe, before: Fitted | None) -> Iterator[Start]:
        start = find_start(recipe.base_model)
        if before is None:
            yield start
            return
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            before.trained.model.save_pretrained(folder)
            yield replace(start, tokenizer=before.trained.tokenizer, base=BaseModel(folder, before.trained.base.name))

    @property
    def _records_of_runs(self) -> Path:
        """Where it is known what earlier versions were trained on."""
        return Path(self.runs or Recipe().runs)

    @contextmanager
    def _run_folder(self) -> Iterator[Path]:
        if self.runs is not None:
            yield Path(self.runs)
            return
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            yield Path(folder)

    @contextmanager
    def _loudness(self) -> Iterator[None]:
        with quiet(not self.verbose):
            yield

    def _needed(self) -> Fitted:
        fitted: Fitted | None = getattr(self, "_fitted", None)
        if fitted is None:
            raise NotFittedError(f"this {type(self).__name__} was not trained yet; call fit first")
        return fitted

    def _script(self, path: str, has_rows: bool, options: Mapping[str, Any]) -> str:
        """The Python that repeats it, for the card."""
        name, defaults = type(self).__name__, _defaults()
        values = {key: getattr(self, key) for key in defaults if key not in ("runs", "verbose")}
        changed = ", ".join(f"{key}={value!r}" for key, value in values.items() if value != defaults[key])
        rows = ", X_test, y_test" if has_rows else ""
        rest = "".join(f", {key}={value!r}" for key, value in options.items())
        lines = [f"estimator = {name}({changed})", "estimator.fit(X, y)", f"estimator.save({path!r}{rows}{rest})"]
        return "\n".join([f"from hooper import {name}", "", *lines])


class TextClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]
    """Texts, or pairs of them, get a label each, or any number of labels.

    `y` holds a label for each row, of any one type, which `classes_` and `predict` keep. A matrix of 0 and 1, (rows, labels),
    or a list of labels for each row says which of several labels a row has; `predict` then gives the same form.

        classifier = TextClassifier(epochs=3)
        classifier.fit(texts, labels)
        classifier.predict(["A warm, funny film."])
        classifier.save("models/films", test_texts, test_labels)
    """

    _training = text_classification.SPEC
    classes_: np.ndarray
    """The labels, sorted: the order of the columns of `predict_proba`."""

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The best label of each row, (rows,); of several labels those that are selected: (rows, labels) of 0 and 1, or lists.

        Raises:
            NotFittedError: it was not trained yet.
            InvalidInput: a row cannot be read.
        """
        answers = self._answers(X)
        places = self._places
        if self._form == "single":
            best = [places[answer.labels[0].label] for answer in answers]
            return np.asarray(self.classes_[np.asarray(best, int)])
        chosen = np.zeros((len(answers), len(self.classes_)), int)
        for row, answer in enumerate(answers):
            for entry in answer.labels:
                chosen[row, places[entry.label]] = bool(entry.selected)
        if self._form == "matrix":
            return chosen
        lists = np.empty(len(answers), object)
        lists[:] = [self.classes_[row == 1].tolist() for row in chosen]
        return lists

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The score of each label, (rows, labels), columns in the order of `classes_`.

        Raises:
            NotFittedError, InvalidInput: as for `predict`.
        """
        answers = self._answers(X)
        scores = np.zeros((len(answers), len(self.classes_)))
        for row, answer in enumerate(answers):
            for entry in answer.labels:
                scores[row, self._places[entry.label]] = entry.score
        return scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def _cells(self, y: Any) -> list[Any]:
        labels = labels_of(y)
        self._form, self.classes_, self._names = labels.form, labels.classes, labels.names
        return labels.cells

    def _label_values(self) -> dict[str, Any]:
        single = getattr(self, "_form", "single") == "single"
        return {"problem_type": "single_label_classification" if single else MULTI, "minus_one": "class"}

    def _note_classes(self, recipe: Recipe, prepared: Prepared) -> None:
        """Which class each label of the model is, by how the task reads the class's name."""
        single = self._form == "single"
        records = [
            Record(f"classes_[{number}]", {"text": "a", "text_pair": "a", LABEL_COLUMN: name if single else [name]})
            for number, name in enumerate(self._names)
        ]
        parse = self._training.labelled_parser(replace(recipe, text_column=""), {DATA: records}, prepared.task_options)
        self._places: dict[str, int] = {}
        for number, record in enumerate(records):
            example = parse(record, DATA)
            if isinstance(example, Example):  # of a column that no row has, the model has no label
                label = example.target if single else example.target[0]
                if label in self._places:
                    other = self._names[self._places[label]]
                    raise InvalidSettings(
                        f"the labels {other!r} and {self._names[number]!r} are both read as {label!r}; rename one"
                    )
                self._places[label] = number


class TextRegressor(RegressorMixin, TextEstimator):  # type: ignore[misc]
    """Texts, or pairs of them, get a number each; `y` holds the numbers."""

    _training = text_regression.SPEC

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The number of each row, (rows,).

        Raises:
            NotFittedError: it was not trained yet.
            InvalidInput: a row cannot be read.
        """
        return np.asarray([text_regression.value_of(answer) for answer in self._answers(X)], float)

    def _cells(self, y: Any) -> list[Any]:
        values = np.asarray(y)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InvalidSettings(f"y has {values.ndim} axes; a number for each row is needed")
        cells = [plain(value) for value in values]
        for number, cell in enumerate(cells):
            try:
                text_regression.read_number(cell)
            except ValueError as error:
                raise InvalidSettings(f"y[{number}] is {error}") from None
        return cells


def _silent(stage: str, text: str) -> None:
    """Nobody reads it."""


def _named(labels: Sequence[str] | None) -> str:
    names = list(labels or ())
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _with_signature(estimator: type[TextEstimator]) -> None:
    """All parameters in `help` and in editors; scikit-learn reads them from here, too."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    keyword = inspect.Parameter.KEYWORD_ONLY
    named = [inspect.Parameter(name, keyword, default=default) for name, default in _defaults().items()]
    estimator.__init__.__signature__ = inspect.Signature([own, *named])  # type: ignore[attr-defined]


_with_signature(TextEstimator)
