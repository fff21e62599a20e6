"""A checkpoint that somebody else trained becomes a published version, through the gate that ours pass."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from app.core.artefact import check_name
from app.core.errors import InvalidSettings
from app.core.manifest import NO_REFERENCE
from app.core.types import TaskName
from app.tasks.tokenizer import Tokenizer
from scripts.export.card import write_imported_card
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.export import try_export
from scripts.export.formatting import Say, describe_metrics
from scripts.export.gguf import unpacked
from scripts.export.layouts import accepted_inputs, head_logits, takes_token_types
from scripts.export.optimize import num_bytes
from scripts.export.pooling import restore_pooling
from scripts.export.publish import VersionContents, contents_of, publish
from scripts.export.seq2seq.import_writer import WriterCheckpoint, describe_checkpoint, import_writer
from scripts.export.tokenizer_definition import definition_of
from scripts.export.torch_reference import torch_reference
from scripts.export.verified_graph import VerifiedGraph, describe_layout, evaluation_of, make_graph
from scripts.export.verify import Reference
from scripts.tasks import training_task, training_tasks
from scripts.tasks.generation.task import GenerationTraining
from scripts.tasks.spec import CheckpointParts, TrainingTask
from scripts.training.pretrained import (
    DEFAULT_LIMIT,
    BaseModel,
    fast_tokenizer,
    first_line,
    longest_input,
    longest_of_tokenizer,
    resolve,
)
from scripts.training.recipe import Recipe

MAX_NAMED_TOKENS = 5
SHORTEST = 8
"""Tokens: what the manifest takes for a model's input at least."""


Storage = Literal["int8", "fp16", "fp32"]


@dataclass(frozen=True)
class ImportRequest:
    """What a person says about a checkpoint to publish."""

    source: str
    recipe: Recipe
    """Its name, description, licence and limits; `validation`, the texts to judge it on; where it is published."""
    task: TaskName | None
    labels: Sequence[str]
    storage: Storage | None
    """None: int8 where labelled texts show what that costs, else fp16, which rounds less."""
    command: str
    """The line that was typed, for the card."""


@dataclass(frozen=True)
class Checkpoint:
    """A torch model with its head, and what the service needs to know of it."""

    source: BaseModel
    task: TaskName
    model: Any
    tokenizer: str
    max_tokens: int
    task_options: dict[str, Any]
    notes: Sequence[str]
    """Sentences for the person at the terminal and for the card."""


def open_checkpoint(name: str, task: TaskName | None = None, labels: Sequence[str] = (), max_tokens: int = 0) -> Checkpoint:
    """Load a folder that transformers saved, or a hub id. Never runs its code and never reads a pickle.

    Args:
        name: folder or hub id.
        task: None: what its head is for.
        labels: names in the order of its outputs; none: its own.
        max_tokens: longest input; 0: what the model reads, at most 512.

    Raises:
        InvalidSettings: it cannot be served, and why.
    """
    source = resolve(name, "checkpoint")
    found, choice = _own_layout(source, task), ""
    if found is None:
        task, choice = _task(_config(source), source, task)
        parts = CheckpointParts(source.location)
    else:
        task, parts = found
    training = training_task(task)
    transformer = BaseModel(parts.transformer, source.name)
    model = training.assemble(_model(transformer, training), parts)
    tokenizer = fast_tokenizer(transformer)
    limit = _num_embeddings(model)
    if limit is not None and len(tokenizer) > limit:
        raise InvalidSettings(f"the tokenizer of {name} knows {len(tokenizer)} tokens, its model only {limit}")
    options, notes = training.checkpoint_options(model.config, labels)
    notes = [*filter(None, [choice]), *parts.notes, *notes]
    unknown = sorted(token for token, number in tokenizer.get_vocab().items() if limit is not None and number >= limit)
    if unknown:
        listing = ", ".join(map(repr, unknown[:MAX_NAMED_TOKENS])) + (", …" if len(unknown) > MAX_NAMED_TOKENS else "")
        notes.append(
            f"the model has no vector for {len(unknown)} of its tokenizer's tokens ({listing}):"
            " a text with one of them is answered by an error, as transformers does"
        )
    definition = definition_of(tokenizer, transformer.location)
    _check_token_types(model.eval(), tokenizer, source)
    longest = longest_input(model) if parts.max_tokens else min(longest_input(model), longest_of_tokenizer(tokenizer))
    read = _max_tokens(max_tokens, longest, parts.max_tokens or DEFAULT_LIMIT)
    return Checkpoint(source, task, model.eval(), definition, read, options, notes)


def open_writer(name: str, task: TaskName | None = None, max_tokens: int = 0) -> WriterCheckpoint | None:
    """The same of a checkpoint that writes; None: it is none.

    Raises:
        InvalidSettings: it cannot be served, and why.
    """
    source = resolve(name, "checkpoint")
    if _own_layout(source, task) is not None:
        return None
    task, choice = _task(_config(source), source, task)
    training = training_task(task)
    if not isinstance(training, GenerationTraining):
        return None
    return describe_checkpoint(source, training, _model(source, training), choice, max_tokens)


def _own_layout(source: BaseModel, requested: TaskName | None) -> tuple[TaskName, CheckpointParts] | None:
    """The task whose own layout a checkpoint has, and its parts; None: it is a plain one of transformers."""
    for name, training in training_tasks().items():
        if requested in (None, name):
            parts = training.checkpoint_parts(source.location, is_named=requested == name)
            if parts is not None:
                return name, parts
    return None


def _config(source: BaseModel) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(source.location, trust_remote_code=False)
    except Exception as error:  # a broken file raises whatever its parser does
        reason = first_line(error)
        raise InvalidSettings(f"{source.location} cannot be read as a checkpoint of transformers: {reason}") from error


def _task(config: Any, source: BaseModel, requested: TaskName | None) -> tuple[TaskName, str]:
    """What the head is for, and a note where it may be for something else.

    Raises:
        InvalidSettings: there is no head, or it is for something else than was requested.
    """
    names = config.architectures or []
    heads = [name.removesuffix("Simple") for name in names]
    fitting = [
        name
        for head in heads
        for name, training in training_tasks().items()
        if head.endswith(training.heads) and training.fits_head(config)
    ]
    tag = pipeline_tag(source)
    signs = {name: sign for name in fitting if (sign := training_tasks()[name].head_sign(config, tag))}
    likely = [name for name in fitting if not training_tasks()[name].is_unlikely_head(config)]
    task = requested if requested in fitting else next(iter([*signs, *likely, *fitting]), None)
    if task is not None and (refusal := training_tasks()[task].head_refusal(config, is_named=requested == task)):
        raise InvalidSettings(f"{source.location} {refusal}")
    if task is None and names:
        raise InvalidSettings(
            f"{source.location} holds {names[0]}, which has no head that can be served;"
            f" train one: hooper train DATA --base-model {source.location}{_headless()}"
        )
    if task is None and requested is None:
        raise InvalidSettings(f"{source.location} does not say what its head is for (architectures in config.json); say --task")
    if requested is not None and task not in (None, requested):
        raise InvalidSettings(f"{source.location} holds {names[0]}, which is for {task}, not for {requested}")
    if requested is not None or task is None:  # one of them is there
        return requested or str(task), ""
    others = [name for name in fitting if name != task]
    if not others or not (task in signs or config.num_labels == 1):
        return task, ""
    reason = f", since {signs[task]}" if task in signs else ""
    return task, f"its head is taken to be for {task}{reason}; say --task {' or --task '.join(others)} where it is for that"


def pipeline_tag(source: BaseModel) -> str:
    """What the card of a checkpoint in a folder says that it does, in the Hub's words; empty: there is none, or it does not."""
    card = Path(source.location) / "README.md"
    if not card.is_file():
        return ""
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    tag = re.search(r"^pipeline_tag:[ \t]*['\"]?([\w-]+)", head[1], re.MULTILINE) if head else None
    return tag[1] if tag else ""


def _headless() -> str:
    """Tasks for which a checkpoint without a head can be published, as the end of a sentence."""
    tasks = training_tasks().items()
    return "".join(f"; or say --task {name} {training.headless}" for name, training in tasks if training.headless)


def _model(source: BaseModel, training: TrainingTask) -> Any:
    folder = Path(source.location)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        only = f"; {pickles[0]} is a pickle, which could run any code when it is read" if pickles else ""
        raise InvalidSettings(
            f"{folder} holds no weights as safetensors{only}. Save it again with save_pretrained(…, safe_serialization=True)"
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, report = training.model_class(_config(source)).from_pretrained(
            source.location, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"{source.location} cannot be loaded: {first_line(error)}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(training.optional_weights or ("\0",)))
    if missing:
        raise InvalidSettings(
            f"{source.location} lacks {len(missing)} of the weights of {type(model).__name__}, for example {missing[0]}:"
            " it was saved without its head, or for another architecture"
        )
    restore_pooling(model)
    return model


def _num_embeddings(model: Any) -> int | None:
    """Tokens that the model has a vector for; None where it does not say."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # of models that hash characters
        return None


def _check_token_types(model: Any, tokenizer: Any, source: BaseModel) -> None:
    """A model without weights for token types may add up words in their place, as GPT-2 and XLM do.

    Raises:
        InvalidSettings: its tokenizer gives token types, and the model answers otherwise with them than without.
    """
    name = "token_type_ids"
    if name not in tokenizer.model_input_names or name not in accepted_inputs(model) or takes_token_types(model):
        return
    input_ids = torch.tensor([tokenizer("a b").input_ids])
    with torch.no_grad():
        try:
            without, with_types = (
                head_logits(model(input_ids=input_ids, return_dict=True, **types))
                for types in ({}, {name: torch.zeros_like(input_ids)})
            )
        except Exception:  # whatever it raises: the trial export says what it is
            return
    if not torch.allclose(without, with_types, atol=1e-4):
        raise InvalidSettings(
            f"{source.location} cannot be served: its tokenizer gives {name}, in place of which {type(model).__name__} adds up"
            f" words; leave {name} out of model_input_names in tokenizer_config.json if that is not meant"
        )


def _max_tokens(requested: int, limit: int, usual: int) -> int:
    if not SHORTEST <= (requested or limit) <= limit:
        raise InvalidSettings(f"--max-tokens is {requested or limit}; this model reads between {SHORTEST} and {limit}")
    return requested or min(limit, usual)


def import_checkpoint(request: ImportRequest, say: Say) -> Path:
    """load > export > evaluate > optimize > verify > quantize > verify > card > publish.

    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the checkpoint or the texts cannot be used, and why.
        ParityFailed: the graph does not reproduce the checkpoint.
        ExportFailed: the architecture cannot become a graph.
    """
    check_name(request.recipe.name)
    with unpacked(request.source) as source:
        return _import_unpacked(replace(request, source=source), say)


def _import_unpacked(request: ImportRequest, say: Say) -> Path:
    writer = open_writer(request.source, request.task, request.recipe.max_tokens)
    if writer is not None:
        return import_writer(request, writer, say)
    checkpoint = open_checkpoint(request.source, request.task, request.labels, request.recipe.max_tokens)
    say("load", f"{type(checkpoint.model).__name__} for {checkpoint.task}, inputs of up to {checkpoint.max_tokens} tokens")
    for note in checkpoint.notes:
        say("", note)
    training = training_task(checkpoint.task)
    data = load_eval_data(training, checkpoint.task_options, request.recipe)
    say("", f"compared on {data.origin}")
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens)
    model, options = checkpoint.model, checkpoint.task_options
    storage = request.storage or ("int8" if data.is_labelled else "fp16")
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        exported = try_export(model, training, tokenizer, options, Path(folder))
        say("export", describe_layout(exported.graph))
        reference = torch_reference(training, model, tokenizer, options, data.examples, data.is_labelled)
        if data.is_labelled:
            metrics = training.evaluate(reference.predictions.answers, data.examples, reference.task_options)
            say("evaluate", describe_metrics(metrics["headline"]))
        verified = make_graph(model, training.output_axis, storage, reference, Path(folder), say, exported)
        contents = _version_contents(request, checkpoint, data, reference, verified)
        published = publish(contents, Path(request.recipe.models))
    say("publish", str(published))
    return published


def _version_contents(
    request: ImportRequest, checkpoint: Checkpoint, data: EvalData, reference: Reference, verified: VerifiedGraph
) -> VersionContents:
    recipe, source, model = request.recipe, checkpoint.source.name, checkpoint.model
    evaluation = {**evaluation_of(verified, reference, data.is_labelled), "command": request.command}
    origin = [
        f"The checkpoint {source} ({type(model).__name__}, {model.num_parameters():,} weights), published with",
        f"```sh\n{request.command}\n```",
        *(f"{note[0].upper()}{note[1:]}." for note in checkpoint.notes),
    ]
    card = write_imported_card(
        recipe,
        checkpoint.task,
        source,
        checkpoint.max_tokens,
        num_bytes(verified.file),
        evaluation,
        origin,
        {"before quantization": verified.exported, **verified.parity},
        data.origin,
    )
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.max_tokens)
    contents = contents_of(recipe, source, checkpoint.tokenizer, tokenizer, verified, reference, evaluation, card)
    description = recipe.description or f"A model for {checkpoint.task}, made from {source}."
    # the built-in texts are like nobody's: drift is not compared with them
    return replace(contents, description=description, reference=contents.reference if data.is_own else NO_REFERENCE)
