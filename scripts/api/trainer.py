"""The trainer: fit, evaluate and save, each a few stages of the pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any, Generic, TypeVar

from app.core.errors import InvalidSettings
from app.core.types import TaskName
from scripts.api.data import DataPart, Source, read
from scripts.api.options import Model, Script, check_arguments, fitting_values, publishing_values, training_values
from scripts.export.eval_data import read_labelled
from scripts.export.formatting import say
from scripts.export.torch_reference import TorchRunner, torch_reference
from scripts.export.verify import ParityFailed, Reference
from scripts.report import page as pages
from scripts.report.build import build
from scripts.tasks.spec import ReportInput
from scripts.training.baselines import measure_baselines
from scripts.training.callbacks import Callback
from scripts.training.columns import data_format
from scripts.training.data import Example, data_notes, describe_broken
from scripts.training.learning_rate import Curve, check_plot
from scripts.training.learning_rate import plot as draw
from scripts.training.objective import mean_loss
from scripts.training.out_of_fold import cross_validate, cut_rows
from scripts.training.pipeline import Pipeline
from scripts.training.pretrained import BaseModel, Start
from scripts.training.publication import Trained
from scripts.training.recipe import recipe_of

F = TypeVar("F")
SUMMED = ("epochs", "updates", "seconds")


class Trainer(Generic[F]):
    """One model on one data set. Nothing is trained until `fit`; another `fit` goes on from where the last one ended, and
    what is evaluated and saved is always the outcome of the last one that ended."""

    def __init__(
        self, task: TaskName, figures: type[F], model: Model, train: DataPart, val: DataPart, options: Mapping[str, Any]
    ) -> None:
        """
        Args:
            task: what the model shall do.
            figures: the named tuple that `evaluate` gives.
            model: what training starts from.
            train: the first part of `get_dataset`.
            val: the second part of the same call.
            options: any other key of a recipe, as in `hooper train --help` with `_` for `-`: `batch_size`, `learning_rate`,
                `max_tokens`, `text_column`, `seed`, …; `name` is that of the folder below `runs` that keeps checkpoints.

        Raises:
            InvalidSettings: an option is unknown or has a place elsewhere, the parts are not those of one call, or too many
                rows are broken.
        """
        check_arguments(model, train, val)
        self._figures: Any = figures
        self._data, self._model = train.data, model
        self._script = Script(task, model.name, train.data, options)
        self._values = training_values(task, model.name, train.data, options)
        pipeline = self._line()
        self._training = pipeline.training
        prepared = pipeline.load(train.data.records)
        prepared = pipeline.for_base(prepared, model.start)
        self._prepared = pipeline.without_known_rows(prepared, model.start.base, Path(pipeline.recipe.runs))
        dataset = self._prepared.dataset
        train.data.split.update(train=dataset.train, validation=dataset.validation)
        self._trained: Trained | None = None
        self._reference: Reference | None = None
        """The trained model's answers to what is held out, once they were needed."""

    def __repr__(self) -> str:
        dataset, trained = self._prepared.dataset, self._trained
        state = "not trained yet" if trained is None else f"trained for {trained.cost.get('epochs', 0):g} epochs"
        rows = f"{len(dataset.train):,} rows to train on, {len(dataset.validation):,} held out"
        return f"<trainer of {self._model.name} for {self._training.name}: {rows}; {state}>"

    def __len__(self) -> int:
        """Rows to train on."""
        return len(self._prepared.dataset.train)

    def __bool__(self) -> bool:
        return True

    def fit(self, epochs: float = 0, *, resume: bool = False, callbacks: Sequence[Callback] = (), **options: Any) -> None:
        """Train, from the model that was given or, when called again, from what the last call ended with; each call has a
        learning rate that rises and falls anew, and an order of rows of its own.

        Args:
            epochs: passes over the data; 0: chosen from the number of rows and labels.
            resume: go on from the last checkpoint of this very call, after it was stopped or killed; an earlier process may
                have made it, with the same model, data and options.
            callbacks: objects of `hooper.Callback`, which are told of each epoch and more.
            options: keys of a recipe that hold for this call alone: `schedule`, `learning_rate`, `class_weights`, `freeze`,
                `budget`, `lora_rank`, `teacher`, ….

        Raises:
            InvalidSettings: the options cannot be used with this model, or there is nothing to resume.
            SetupError: a callback raised something.
            Interrupted: Ctrl-C was pressed; what a resumed call goes on from is saved.
        """
        number = len(self._script.fits)
        recipe = self._line(**fitting_values(options)).recipe
        name = f"{recipe.name}.fit{number + 1}" if number else recipe.name  # what the last call made is kept meanwhile
        with self._start() as start:
            values = {**options, "epochs": epochs, "seed": recipe.seed + number, "name": name}
            pipeline = self._line(callbacks=callbacks, **values)
            with pipeline.tracked():
                trained = pipeline.train(self._prepared, resume, start)
        cost = _added(self._trained.cost if self._trained else {}, trained.cost)
        untrained = self._trained.untrained if self._trained else trained.untrained  # of the model that was given
        self._trained = replace(trained, base=self._model.start.base, cost=cost, untrained=untrained)
        self._reference = None
        self._script = self._script.fitted(epochs, options)

    def autofit(self, epochs: float = 0, *, resume: bool = False, callbacks: Sequence[Callback] = (), **options: Any) -> None:
        """`fit` until a tenth of the training rows, which are set aside for this, show that it learns nothing more: each
        evaluation without a lower loss halves the learning rate, the third in a row ends it, and the best model is kept.

        Args:
            epochs: passes over the data at most; 0: twice as many as `fit` would choose.
            resume: as for `fit`.
            callbacks: as for `fit`.
            options: as for `fit`.

        Raises:
            InvalidSettings: as for `fit`, or there are too few rows.
            Interrupted: as for `fit`.
        """
        self.fit(epochs, resume=resume, callbacks=callbacks, **options, autofit=True)

    def find_learning_rate(self, plot: str | Path | None = None, **options: Any) -> Curve:
        """Try rising learning rates, at most 200 updates, from where the next `fit` would start; the model stays as it is.

        Args:
            plot: where to draw the curve: a file that ends in .svg, .png or .pdf.
            options: as for `fit`.

        Returns:
            The curve, with its `suggestion`.

        Raises:
            InvalidSettings: as for `fit`, the plot cannot be made, or no rate makes the loss fall.
            SetupError: the plot cannot be written.
        """
        if plot is not None:
            check_plot(Path(plot))
        with self._start() as start:
            curve = self._line(**fitting_values(options)).find_learning_rate(self._prepared, start)
        say("suggest", f"learning_rate={curve.suggestion:g}")
        if plot is not None:
            draw(curve, Path(plot))
        return curve

    def cross_validate(
        self, folds: int = 5, epochs: float = 0, *, page: str | Path | None = None, **options: Any
    ) -> dict[str, Any]:
        """Train as many models as folds, from the model that was given, and judge each row of the training part by the one that
        did not see it. None of them is kept, what is held out stays unseen, and what `fit` made stays as it is.

        Args:
            folds: 2 or more.
            epochs: as for `fit`.
            page: where to write the report as a page, with the same as json beside it.
            options: as for `fit`.

        Returns:
            As `report`, on the rows of all folds: the `headline`, `per_class`, likely label errors under `suspects`; under
            `cross_validation` the `folds`, and `mean` and `standard_deviation` of each metric over them.

        Raises:
            InvalidSettings: as for `fit`, or there are too few rows for so many folds.
            SetupError: the disk is full, or the page cannot be written.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        pipeline = self._line(**fitting_values(options), epochs=epochs)
        prepared, parts = cut_rows(pipeline, self._data.records, folds, fold_all=False)
        report = cross_validate(pipeline, prepared, parts, self._model.start)
        if page is not None:
            pages.write(report, Path(page).expanduser())
        return report

    def evaluate(self, part: DataPart | Source) -> F:
        """Loss and figures of the trained model in torch; `save` measures the published graph anew.

        Args:
            part: `train` or `val` of `get_dataset`, or a source of its own, such as a test set: a path, a hub id, rows, ….

        Raises:
            InvalidSettings: nothing was trained yet, or the source cannot be used.
        """
        report = self.report(part)
        values = {"loss": report["loss"], **report["headline"]}
        metrics: F = self._figures(**{name: values.get(name, nan) for name in self._figures._fields})
        return metrics

    def report(self, part: DataPart | Source) -> dict[str, Any]:
        """Everything that `evaluate` measures: `loss`, the `headline`, `by_source`, and for labels `per_class`.

        Raises:
            InvalidSettings: as for `evaluate`.
        """
        trained, reference = self._needed("evaluate"), self._judged_on(part)
        figures = self._training.evaluate(reference.predictions.answers, reference.examples, reference.task_options)
        rows = self._training.training_rows(reference.examples, trained.reader, self._prepared.task_options)
        return {"loss": mean_loss(self._training, trained.model, rows), **figures}

    def top_losses(self, most: int = 10, part: DataPart | Source | None = None) -> list[dict[str, Any]]:
        """The worst errors: their texts as `fields`, what was `guessed`, what is `right`, and where they stand; the largest
        loss first (of answers the smallest F1, of summaries the smallest ROUGE-1).

        Args:
            most: how many, where there are so many.
            part: as for `evaluate`; None: what is held out.

        Raises:
            InvalidSettings: as for `evaluate`.
        """
        return self._training.worst_errors(self._report_input(part), most)

    def write_report(self, path: str | Path, part: DataPart | Source | None = None) -> Path:
        """Write the report as a page of its own, with the same as json beside it: what is right and wrong, how sure the
        model is of it, the worst errors with the words that misled it, likely label errors. It holds texts of the data.

        Args:
            path: of the page; `.html` is added where it is missing.
            part: as for `evaluate`; None: what is held out.

        Returns:
            The page. `save` leaves one on the published graph in the run's folder.

        Raises:
            InvalidSettings: as for `evaluate`.
            SetupError: it cannot be written.
        """
        evaluated = self._report_input(part)
        train, answers = self._prepared.dataset.train, evaluated.predictions.answers
        baselines = measure_baselines(self._training, train, evaluated.examples, answers, evaluated.task_options)
        report = build(evaluated, {"made from": self._model.name}, {"baselines": baselines})
        return pages.write(report, Path(path).expanduser())

    def save(self, path: str | Path, **options: Any) -> Path:
        """Export, verify and publish as the next version in this folder: `hooper serve --model PATH` serves the latest.

        A version that is worse on the same held-out rows than the one that serves is published without serving, as is said.

        Args:
            path: the model's folder; its last part is the model's name.
            options: keys of a recipe that can wait until now: `storage`, `description`, `license`, `limits`, `golden`,
                `serve_anyway`.

        Returns:
            The version's folder, `path/<version>`.

        Raises:
            InvalidSettings: nothing was trained yet, or the path's last part cannot be a model's name.
            ParityFailed: the graph does not reproduce the torch model; nothing is published.
            SetupError: the architecture cannot be exported, or the folder cannot be written; nothing is left behind.
        """
        trained = self._needed("save")
        folder = Path(path).expanduser()
        script = self._script.to_save(str(path), options)
        pipeline = self._line(script, **publishing_values(options), name=folder.name, models=str(folder.parent))
        try:
            return pipeline.export(self._prepared, trained, self._held_out(trained)).folder
        except ParityFailed as error:
            if error.larger_storage:
                error.detail += f"; publish it with larger weights: save({str(path)!r}, storage={error.larger_storage!r})"
            raise

    def _judged_on(self, part: DataPart | Source) -> Reference:
        trained = self._needed("evaluate")
        examples = self._examples(part)
        if examples is self._prepared.dataset.validation:
            return self._held_out(trained)
        return torch_reference(
            self._training, trained.model, trained.reader, self._prepared.task_options, examples, is_labelled=False
        )

    def _report_input(self, part: DataPart | Source | None) -> ReportInput:
        trained = self._needed("report on")
        reference = self._held_out(trained) if part is None else self._judged_on(part)
        return ReportInput(
            name=self._line().recipe.name,
            training=self._training,
            task_options=reference.task_options,
            task=reference.task,
            examples=reference.examples,
            predictions=reference.predictions,
            runner=None if self._training.has_decoder else TorchRunner(trained.model, self._training.output_axis),
            notes=data_notes(self._prepared.dataset, self._prepared.sentences),
            are_options_fitted=reference is self._reference,
        )

    def _line(self, script: str = "", callbacks: Sequence[Callback] = (), **values: Any) -> Pipeline:
        return Pipeline(recipe_of({**self._values, **values}), None, say, script, callbacks)

    @contextmanager
    def _start(self) -> Iterator[Start]:
        """Where the next fit starts from."""
        if self._trained is None:
            yield self._model.start
            return
        # from a folder of its own: the run folder may by now hold another trainer's model
        with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            self._trained.model.save_pretrained(folder)
            base = BaseModel(folder, self._model.start.base.name)
            yield replace(self._model.start, tokenizer=self._trained.tokenizer, base=base)

    def _needed(self, action: str) -> Trained:
        if self._trained is None:
            raise InvalidSettings(f"there is nothing to {action} yet: nothing was trained; call fit first")
        return self._trained

    def _held_out(self, trained: Trained) -> Reference:
        if self._reference is None:
            self._reference = self._line().evaluate(self._prepared, trained)
        return self._reference

    def _examples(self, part: DataPart | Source) -> Sequence[Example]:
        dataset = self._prepared.dataset
        if not isinstance(part, DataPart):
            return self._others(part)
        if part.data is not self._data:
            raise InvalidSettings("this part is of another get_dataset; give its source, such as evaluate('test.csv')")
        return dataset.train if part.name == "train" else dataset.validation

    def _others(self, source: Source) -> Sequence[Example]:
        """Examples that are no part of the data, with a word on those that training saw all the same."""
        recipe = self._line().recipe
        known = data_format(recipe, self._prepared)
        examples, broken = read_labelled(self._training, self._prepared.task_options, recipe, read(source), known)
        say("load", f"{len(examples):,} rows to evaluate")
        if broken:
            say("", describe_broken(broken))
        seen = {repr(entry.item) for entry in self._prepared.dataset.train}
        num_seen = sum(repr(example.item) in seen for example in examples)
        if num_seen:
            say("", f"{num_seen:,} of them were trained on, and make the figures better than they are")
        return examples


def _added(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What two fits cost together; the rest is as the last one found it."""
    return {key: round(before.get(key, 0) + value, 1) if key in SUMMED else value for key, value in now.items()}
