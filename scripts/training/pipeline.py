"""The whole line: load > fine-tune > evaluate > export > optimize > quantize > verify > card > publish."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from app.core.artefact import check_name
from app.core.errors import InvalidSettings
from app.data import Record
from app.tasks.tokenizer import Tokenizer
from scripts.export.export import Exported, try_export
from scripts.export.formatting import Say, describe_beginning, describe_cost, describe_metrics, describe_perplexity
from scripts.export.seq2seq.trained import TrainedWriter, WrittenVersion, make_version
from scripts.export.torch_reference import torch_reference
from scripts.export.verified_graph import describe_layout, make_graph
from scripts.export.verify import Reference
from scripts.tasks import training_task
from scripts.tasks.generation.task import GenerationTraining
from scripts.tasks.spec import Prepared, TrainingRow
from scripts.training import pretrained, trained_rows
from scripts.training.budget import length_cost
from scripts.training.callbacks import Callback, ExperimentTracker, check_trackers
from scripts.training.casing import add_capitals, folded_for_trial, with_capitals
from scripts.training.columns import with_task
from scripts.training.data import Example, data_notes, read_all, read_corrections
from scripts.training.data_checks import check_vocabulary
from scripts.training.disk import check_writable, disk_needs, disk_room
from scripts.training.distillation import read_unlabelled, taught_rows
from scripts.training.fine_tune import fine_tune, split_for_autofit
from scripts.training.learning_rate import Curve, find_learning_rate
from scripts.training.pretrained import BaseModel
from scripts.training.processes import is_main_process, wait_for_all
from scripts.training.publication import Publication, PublishedModel, PublishingRun, Trained
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder, refusals_told
from scripts.training.seq2seq import models as seq2seq
from scripts.training.seq2seq.generate import make_judge
from scripts.training.seq2seq.objective import measure_perplexity
from scripts.training.seq2seq.tokenizer import PairTokenizer
from scripts.training.small_data import begin_with_probe, resolved
from scripts.training.trainer import Judge


@dataclass(frozen=True)
class Beginning:
    """What the first update of a run begins with."""

    model: Any
    """With a head as the seed draws it, pooling as the recipe says."""
    definition: str
    """JSON text of the tokenizer."""
    tokenizer: Tokenizer
    recipe: Recipe
    """With everything decided that was `auto`."""


class Pipeline:
    """One run of one recipe; every method is one of its stages, or a few."""

    def __init__(
        self, recipe: Recipe, recipe_file: Path | None, say: Say, script: str = "", callbacks: Sequence[Callback] = ()
    ) -> None:
        """
        Args:
            recipe_file: where the recipe was read from, for the card.
            script: the Python that repeats this run, for the card, where no `hooper train` line does.
            callbacks: who is told what training does, beside the recipe's trackers.
        """
        check_trackers(recipe.log_to)
        self._callbacks = list(callbacks)
        check_name(recipe.name)
        self.say: Say = say if is_main_process() else lambda stage, text: None
        recipe, task_note = with_task(recipe)
        if task_note:
            self.say("task", task_note)
        self.recipe, self.recipe_file, self.script = recipe, recipe_file, script
        self.training = training_task(recipe.task)
        self.run_folder = RunFolder(Path(recipe.runs) / recipe.name)
        self.is_trained = False
        """Whether the fine-tuned model is on disk: from then on a failure costs no training."""

    def run(self, resume: bool) -> PublishedModel | None:
        """All stages, from data to a published version; none from a process that only helps another to train."""
        with self.tracked():
            return self._run(resume)

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """The recipe's experiment trackers listen until the block ends.

        Raises:
            SetupError: one of them cannot be started.
        """
        callbacks = self._callbacks
        trackers: list[ExperimentTracker] = []
        try:
            if is_main_process():
                for name in dict.fromkeys(self.recipe.log_to):
                    trackers.append(ExperimentTracker(name, self.recipe))  # noqa: PERF401  # those before are closed
            self._callbacks = [*callbacks, *trackers]
            yield
        finally:
            self._callbacks = callbacks
            for tracker in trackers:
                tracker.close()

    def _run(self, resume: bool) -> PublishedModel | None:
        check_writable(self.recipe)  # first, with the base model: each says at once what would stop the run in the end
        start = self.find_start()
        prepared = self.check_start(self.load(read_all(self.recipe)), start)
        trained = self.train(prepared, resume, start)
        if not is_main_process():
            return None
        return self.export(prepared, trained, self.evaluate(prepared, trained))

    def load(self, records: Mapping[str, list[Record]]) -> Prepared:
        """Records of each source become the examples to train on and those held out."""
        corrections = read_corrections(self.recipe)
        prepared = self.training.prepare(self.recipe, {**records, **corrections.records})
        dataset = prepared.dataset
        if self.recipe.from_feedback:
            count_note = (
                f"{dataset.num_corrections:,} corrections are trained on, in place of {dataset.num_replaced:,} rows of the data"
            )
            prepared = replace(prepared, notes=[*prepared.notes, count_note, *corrections.notes])
        prepared = self.with_unlabelled(prepared)
        self.say("load", f"{len(dataset.train):,} rows to train on, {len(dataset.validation):,} held out")
        for note in data_notes(dataset, prepared.sentences):
            self.say("", note)
        return prepared

    def with_unlabelled(self, prepared: Prepared) -> Prepared:
        """And the texts that a teacher answers, where the recipe names any.

        Raises:
            InvalidSettings: they cannot be read, or there is none.
        """
        if not self.recipe.teacher_data:
            return prepared
        unlabelled, sentences = read_unlabelled(self.recipe, self.training, prepared)
        return replace(
            prepared,
            dataset=replace(prepared.dataset, unlabelled=unlabelled),
            notes=[*prepared.notes, *sentences],
        )

    def find_start(self) -> pretrained.Start:
        """What the recipe's training begins with.

        Raises:
            InvalidSettings: there is no such base model, or it cannot be used.
        """
        name, task, models = self.recipe.base_model, self.training, Path(self.recipe.models)
        if task.has_decoder:
            return seq2seq.find_start(name, task.name, models)
        start = pretrained.find_start(name, models=models)
        if start.is_new:
            raise InvalidSettings(f"base_model is new, but a model for {task.name} learns too little from its rows alone")
        return start

    def check_start(self, prepared: Prepared, start: pretrained.Start) -> Prepared:
        """With a check more where the base model hardly knows the data's language, and without held-out rows that it knows.

        Raises:
            InvalidSettings: it knows all of them.
        """
        prepared = self.without_known_rows(prepared, start.base, Path(self.recipe.runs))
        prepared = self.for_base(prepared, start)
        if start.is_new:  # its vocabulary is made of the data
            return prepared
        checks = list(check_vocabulary(prepared.dataset, Tokenizer(start.tokenizer, pretrained.DEFAULT_LIMIT)))
        for check in checks:
            self.say("", str(check))
        return replace(prepared, checks=[*prepared.checks, *checks])

    def for_base(self, prepared: Prepared, start: pretrained.Start) -> Prepared:
        """With the task options that follow from the base model, of a task whose models say something of the kind.

        Raises:
            InvalidSettings: the base model is for other data.
        """
        training = self.training
        if not isinstance(training, GenerationTraining) or start.writer is None:
            return prepared
        options = training.base_options(start, seq2seq.config_of(start.base), prepared.task_options)
        prepared = replace(prepared, task_options=options)
        training.check_for_base(prepared)
        return prepared

    def without_known_rows(self, prepared: Prepared, base: BaseModel, runs: Path) -> Prepared:
        """Without held-out rows that a published version was trained on, with which this training begins.

        Raises:
            InvalidSettings: it was trained on all of them.
        """
        if base.version is None:
            return prepared
        dataset, note = trained_rows.without_trained_on(prepared.dataset, base.version, runs)
        if note:
            self.say("", note)
        return replace(prepared, dataset=dataset, notes=[*prepared.notes, *filter(None, [note])])

    def train(
        self, prepared: Prepared, resume: bool, start: pretrained.Start | None = None, watched: Sequence[Example] = ()
    ) -> Trained:
        """Fine-tune from `start`, by default the recipe's base model, or go on from what an earlier run left.

        Args:
            resume: whether to go on.
            start: what training begins with.
            watched: rows whose loss callbacks are told after each epoch, where the recipe has no autofit with rows of its own.
        """
        recipe, options, dataset = self.recipe, prepared.task_options, prepared.dataset
        if resume:
            recipe = self.run_folder.check_same(recipe, dataset)
        start = start or self.find_start()
        begun = self.begin(recipe, prepared, start, resume)
        model, tokenizer, recipe, max_tokens = begun.model, begun.tokenizer, begun.recipe, begun.tokenizer.max_tokens
        if not (resume and self.run_folder.is_finished):
            self._try_out(model, tokenizer, options)
        untrained = self._untrained(model, tokenizer, prepared)
        before = {} if start.is_new else self._perplexity(model, tokenizer, prepared)
        self.say("fine-tune", f"{start.base.name}, inputs of up to {max_tokens} tokens")
        beginning = beginning_of(start.base, recipe, model)
        if beginning is not None:
            self.say("", describe_beginning(beginning))
        self._say_cost(recipe, model, max_tokens)
        if resume and self.run_folder.is_finished:
            self.say("", f"finished before: {self.run_folder.final}")
        else:
            with refusals_told(self.run_folder):
                self._fine_tune(recipe, model, prepared, start, tokenizer, resume, beginning, watched)
        # loaded again: what is evaluated is what was saved, and the trainer leaves its model in bf16 autocast
        model = pretrained.load_finished(self.training, options, self.run_folder.final).to(_device())
        self.is_trained = True
        writing = tokenizer if isinstance(tokenizer, PairTokenizer) else None
        perplexity = self._perplexity(model, tokenizer, prepared)
        if before:
            perplexity["before"] = before["perplexity"]
        made_from, run = (start.base, begun.definition, max_tokens), self.run_folder
        return Trained(model, *made_from, run.cost, run.history, untrained, writing, perplexity)

    def _say_cost(self, recipe: Recipe, model: Any, max_tokens: int) -> None:
        """What long inputs cost, and where there is not room enough."""
        if max_tokens > pretrained.DEFAULT_LIMIT and (cost := length_cost(recipe, model, max_tokens)):
            self.say("", str(cost))
        for room in disk_room(disk_needs(recipe, model.num_parameters())):
            if not room.is_enough:
                self.say("", f"the disk may be too small: {room}")

    def find_learning_rate(self, prepared: Prepared, start: pretrained.Start | None = None) -> Curve:
        """Losses at rising learning rates, from the same start as `train`; nothing is kept of what was trained."""
        start = start or self.find_start()
        begun = self.begin(self.recipe, prepared, start)
        model, tokenizer, recipe, max_tokens = begun.model, begun.tokenizer, begun.recipe, begun.tokenizer.max_tokens
        self._try_out(model, tokenizer, prepared.task_options)
        self.say("find", f"learning rate of {start.base.name}, inputs of up to {max_tokens} tokens")
        rows = self.training_rows(prepared.dataset.train, prepared, tokenizer)
        if recipe.head == "probe":
            begin_with_probe(model, self.training, rows)
        return find_learning_rate(recipe, self.training, model, rows, self.run_folder.path)

    def evaluate(self, prepared: Prepared, trained: Trained) -> Reference:
        """The torch model's answers to what it has not seen: figures now, and the reference for parity later."""
        examples = prepared.dataset.validation
        reference = torch_reference(self.training, trained.model, trained.reader, prepared.task_options, examples)
        figures = self.training.evaluate(reference.predictions.answers, examples, reference.task_options)
        self.say("evaluate", describe_metrics(figures["headline"], self.training.metric_names(prepared.task_options)))
        if trained.perplexity:
            self.say("", describe_perplexity(trained.perplexity))
        return reference

    def export(self, prepared: Prepared, trained: Trained, reference: Reference) -> PublishedModel:
        """export > optimize > verify > quantize > verify > card > publish."""
        with refusals_told(self.run_folder), tempfile.TemporaryDirectory(prefix="hooper-") as folder:
            version: WrittenVersion | None = None
            if isinstance(self.training, GenerationTraining):
                version = make_version(self._written(trained), reference, Path(folder), self.say)
                verified = version.contents.verified
            else:
                storage, axis = self.recipe.storage, self.training.output_axis
                verified = make_graph(trained.model, axis, storage, reference, Path(folder), self.say)
            return Publication(self._publishing_run, prepared, trained, reference, verified, version).publish(self._callbacks)

    @property
    def _publishing_run(self) -> PublishingRun:
        return PublishingRun(self.recipe, self.training, self.run_folder, self.say, self.script, self.recipe_file)

    def _written(self, trained: Trained) -> TrainedWriter:
        """What a model that writes is published from."""
        training, tokenizer = self.training, trained.writing
        if not isinstance(training, GenerationTraining) or tokenizer is None:
            raise TypeError(f"a model for {training.name} does not write")
        return TrainedWriter(self.recipe, training, trained.model, trained.base, tokenizer)

    def begin(self, recipe: Recipe, prepared: Prepared, start: pretrained.Start, resume: bool = False) -> Beginning:
        """The model with its head, the tokenizer cut to its longest input, and the recipe by which this data is trained."""
        if self.training.has_decoder:
            return self._begin_writing(recipe, prepared, start, resume)
        start = with_capitals(start) if recipe.cased else start
        model, max_tokens = self._model(prepared, start)
        version = start.base.version
        reads_rows = version is not None and version.graph.outputs[0].axis == "row"
        decided = resolved(recipe, self.training, model, start.base.location, len(prepared.dataset.train), reads_rows)
        return Beginning(model, start.tokenizer, Tokenizer(start.tokenizer, max_tokens), decided)

    def _begin_writing(self, recipe: Recipe, prepared: Prepared, start: pretrained.Start, resume: bool) -> Beginning:
        definition = start.tokenizer or (self.run_folder.vocabulary if resume else "")
        if not definition:
            definition = seq2seq.vocabulary_of(recipe, prepared.dataset.train)
        model = seq2seq.load(recipe, start, definition)
        return Beginning(model, definition, seq2seq.make_tokenizer(recipe, model, start, definition), recipe)

    def _model(self, prepared: Prepared, start: pretrained.Start) -> tuple[Any, int]:
        """The model with a head as the seed draws it, and the tokens of its longest input."""
        torch.manual_seed(self.recipe.seed)
        model = pretrained.load_model(self.recipe, self.training, prepared.task_options, start.base)
        if self.recipe.cased:
            add_capitals(model, start.tokenizer)
        limit = min(pretrained.longest_input(model), start.max_tokens)
        max_tokens = pretrained.choose_max_tokens(self.recipe, limit, model.usual_tokens)
        texts = [] if self.recipe.max_tokens else self.training.window_texts(prepared.dataset.train)
        if texts:
            max_tokens = pretrained.fitting_window(start.tokenizer, texts, max_tokens)
        return model, max_tokens

    def _untrained(self, model: Any, tokenizer: Tokenizer, prepared: Prepared) -> Sequence[Any]:
        """The model's answers to the held-out rows before it is trained, of a task that is compared with them."""
        examples, options = prepared.dataset.validation, prepared.task_options
        if not (self.training.is_compared_with_base and examples and is_main_process()):
            return ()
        was_training = model.training
        answers = torch_reference(self.training, model, tokenizer, options, examples).predictions.answers
        model.train(was_training)
        return answers

    def _perplexity(self, model: Any, tokenizer: Tokenizer, prepared: Prepared) -> dict[str, Any]:
        """Of a model that writes, on the held-out targets; empty: it has none."""
        if not isinstance(tokenizer, PairTokenizer):
            return {}
        return measure_perplexity(self.training, model, tokenizer, prepared.task_options, prepared.dataset.validation)

    def trial_export(self, model: Any, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> Exported:
        """The untrained model as the graph that it would become.

        Raises:
            ExportFailed: it cannot be served, and why.
        """
        with folded_for_trial(model, self.recipe.cased):
            return try_export(model, self.training, tokenizer, task_options)

    def _try_out(self, model: Any, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> None:
        """The trial export, in each process: it also notes on the model how its rows are padded."""
        if self.training.has_decoder:
            return
        tried = self.trial_export(model, tokenizer, task_options)
        self.say("trial", f"the untrained model becomes a graph in {describe_layout(tried.graph)}")

    def _fine_tune(
        self,
        recipe: Recipe,
        model: Any,
        prepared: Prepared,
        start: pretrained.Start,
        tokenizer: Tokenizer,
        resume: bool,
        beginning: Mapping[str, Any] | None,
        watched: Sequence[Example],
    ) -> None:
        if not resume and is_main_process():
            self.run_folder.start(self.recipe, prepared.dataset, tokenizer.definition if start.is_new else "")
        elif resume:
            checkpoint = self.run_folder.last_checkpoint
            missing = f"{self.run_folder.path} has no checkpoint yet: from the beginning"
            self.say("", missing if checkpoint is None else f"resuming from {checkpoint}")
        examples, validation_split = prepared.dataset.train, watched
        if self.recipe.autofit:
            examples, validation_split = split_for_autofit(examples)
            self.say("", f"autofit: {len(validation_split):,} training rows are the validation split that decides when to stop")
        unlabelled = prepared.dataset.unlabelled
        rows = self.training_rows(examples, prepared, tokenizer, self.run_folder.teacher, resume, unlabelled)
        judged_on = self.training.training_rows(validation_split, tokenizer, prepared.task_options)
        # also before a run is resumed, whose weights come from its checkpoint: the record of the probe is not kept there
        labelled = [row for row in rows if row.is_labelled]
        probe = begin_with_probe(model, self.training, labelled) if recipe.head == "probe" else None
        if self.training.has_decoder and len(rows) < len(examples):
            self.say("", f"{len(examples) - len(rows):,} rows left out: longer than {tokenizer.max_tokens} tokens")
        judge = self._judge(tokenizer, prepared, validation_split)
        cost = fine_tune(recipe, self.training, model, rows, self.run_folder, resume, judged_on, self._callbacks, judge)
        if probe is not None:
            cost["probe"] = asdict(probe)
        if beginning is not None:
            cost["beginning"] = dict(beginning)
        if is_main_process():
            self.run_folder.save_final(model, cost, self._checkpoint_files(start, tokenizer))
        wait_for_all()
        for sentence in describe_cost(cost):
            self.say("", sentence)

    def _judge(self, tokenizer: Tokenizer, prepared: Prepared, rows: Sequence[Example]) -> Judge | None:
        """What measures a model that writes by its texts for rows set aside."""
        if not rows or not isinstance(tokenizer, PairTokenizer):
            return None
        return make_judge(self.training, tokenizer, prepared.task_options, rows)

    def _checkpoint_files(self, start: pretrained.Start, tokenizer: Tokenizer) -> Mapping[str, str | Path]:
        """What is kept beside the finished weights: of a model that writes all that makes them a checkpoint of transformers."""
        return seq2seq.checkpoint_files(start, tokenizer.definition) if self.training.has_decoder else {}

    def training_rows(
        self,
        examples: Sequence[Example],
        prepared: Prepared,
        tokenizer: Tokenizer,
        logits_file: Path | None = None,
        resume: bool = False,
        unlabelled: Sequence[Example] = (),
    ) -> list[TrainingRow]:
        """What is trained on, with a teacher's answers where the recipe names one, who alone answers rows without a label."""
        options, teacher = prepared.task_options, self.recipe.teacher
        if not teacher:
            return self.training.training_rows(examples, tokenizer, options)
        self.say("", f"the teacher, {teacher}, answers {len(examples) + len(unlabelled):,} rows")
        return taught_rows(teacher, self.training, tokenizer, options, (examples, unlabelled), logits_file, resume)


def beginning_of(base: BaseModel, recipe: Recipe, model: Any) -> dict[str, Any] | None:
    """What a training takes over of a published version; None where it begins with another base model.

    Args:
        base: what it begins with.
        recipe: with its `head` decided.
        model: as it was loaded; `head_is_new` says whether the version's head did not fit.
    """
    version = base.version
    if version is None:
        return None
    head_kept = not model.head_is_new and recipe.head != "probe"
    return {
        "version": base.name,
        "base_model": version.base_model,
        "license": version.license,
        "storage": version.graph.storage,
        "head_kept": head_kept,
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
