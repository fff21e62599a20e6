"""An encoder-decoder checkpoint becomes a published version: export > verify > quantize > verify > golden > card > publish."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.core.errors import InvalidSettings
from app.core.manifest import Decoder, Parity
from app.core.sequences import SamplingParams
from app.tasks.tokenizer import Tokenizer
from scripts.export.card import write_imported_card
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.formatting import Say, describe_parity
from scripts.export.optimize import MODEL, files_of, move, num_bytes, quantize_weights
from scripts.export.publish import VersionContents, publish
from scripts.export.seq2seq.causal_families import DEFAULT_CONTEXT, num_causal_positions, with_soft_caps
from scripts.export.seq2seq.generation import decoder_fields
from scripts.export.seq2seq.golden import golden_answers
from scripts.export.seq2seq.graphs import DECODER, export_writer
from scripts.export.seq2seq.int8 import HeldOut, graphs_of, with_int8
from scripts.export.seq2seq.parity import WriterReference, verify_exported, verify_stored
from scripts.export.seq2seq.source_encoder import Known
from scripts.export.seq2seq.steps import NUM_TEXTS, ComputedReference, Graphs, StepReference, different_rows, open_engine
from scripts.export.seq2seq.tokenizers import WriterTokenizer, writer_tokenizer
from scripts.export.verified_graph import VerifiedGraph
from scripts.tasks.generation.task import GenerationTraining
from scripts.training.evaluation import Predictions, encode_all
from scripts.training.pretrained import DEFAULT_LIMIT, SERVED, BaseModel, longest_of_tokenizer

if TYPE_CHECKING:
    from scripts.export.import_checkpoint import ImportRequest

TARGET_TOKENIZER = "target_tokenizer.json"
ROWS = (
    "Rows below are texts before quantization, and afterwards tokens, each of them behind what PyTorch wrote before it;"
    " those of int8 are compared with the published graphs in fp32."
)


@dataclass(frozen=True)
class WriterCheckpoint:
    """A torch model that writes, and what the service needs to know of it."""

    source: BaseModel
    training: GenerationTraining
    model: Any
    tokenizer: WriterTokenizer
    max_tokens: int
    decoder_fields: dict[str, Any]
    task_options: dict[str, Any]
    notes: Sequence[str]

    @property
    def known(self) -> Known:
        tokenizer = self.tokenizer
        return (tokenizer.num_known, tokenizer.original.unk_token_id) if tokenizer.num_known else None

    def reader(self) -> Tokenizer:
        return Tokenizer(self.tokenizer.definition, self.max_tokens)

    def task(self, decoder: Decoder) -> Any:
        """The production task."""
        target = Tokenizer(self.tokenizer.target, decoder.max_length) if self.tokenizer.target else None
        return self.training.serving_task(self.reader(), self.task_options, decoder, target)


def describe_checkpoint(
    source: BaseModel, training: GenerationTraining, model: Any, choice: str, max_tokens: int
) -> WriterCheckpoint:
    """
    Args:
        source: where the checkpoint lies.
        training: what it is for.
        model: of transformers, with its head.
        choice: a note on how the task was chosen.
        max_tokens: longest source; 0: what the model reads, at most 512.

    Raises:
        InvalidSettings: it cannot be served, and why.
    """
    tokenizer = writer_tokenizer(source)
    num_tokens = tokenizer.num_known or len(tokenizer.original)
    has_encoder = model.config.is_encoder_decoder
    num_embeddings = int((model.get_encoder() if has_encoder else model).get_input_embeddings().weight.shape[0])
    if num_tokens > num_embeddings:
        raise InvalidSettings(f"the tokenizer of {source.name} knows {num_tokens} tokens, its model only {num_embeddings}")
    options, notes = training.writer_options(model.config, tokenizer.original)
    fields, more = decoder_fields(model, tokenizer.original)
    read = _max_tokens(
        max_tokens, _longest_source(model, tokenizer.original), DEFAULT_LIMIT if has_encoder else DEFAULT_CONTEXT
    )
    if not has_encoder:
        fields["max_length"] = read
        with_soft_caps(model)
    return WriterCheckpoint(
        source, training, model.float().eval(), tokenizer, read, fields, options, [*filter(None, [choice]), *notes, *more]
    )


def import_writer(request: ImportRequest, checkpoint: WriterCheckpoint, say: Say) -> Path:
    """
    Returns:
        The version's folder.

    Raises:
        InvalidSettings: the texts cannot be used, or the storage, and why.
        ParityFailed: the graphs do not write what the checkpoint writes.
        ExportFailed: its encoder cannot become a graph.
    """
    training, model = checkpoint.training, checkpoint.model
    read = "sources of up to" if model.config.is_encoder_decoder else "texts and what continues them of up to"
    say("load", f"{type(model).__name__} for {training.name}, {read} {checkpoint.max_tokens} tokens")
    for note in checkpoint.notes:
        say("", note)
    data = load_eval_data(
        training, checkpoint.task_options, replace(request.recipe, max_rows=request.recipe.max_rows or NUM_TEXTS)
    )
    say("", f"compared on {data.origin}")
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        contents, reference = make_contents(request, checkpoint, data, Path(folder), say)
        task = checkpoint.task(graphs_of(contents).decoder)
        held_out = HeldOut(training, task, checkpoint.task_options, data.examples, data.is_labelled, None, reference)
        contents = with_int8(contents, held_out, say)
        contents = replace(contents, card=_card(request, checkpoint, data, contents))
        published = publish(contents, Path(request.recipe.models))
    say("publish", str(published))
    return published


def make_contents(
    request: ImportRequest, checkpoint: WriterCheckpoint, data: EvalData, folder: Path, say: Say
) -> tuple[VersionContents, StepReference]:
    """export > verify > quantize > verify > golden: what a version is made of, without its card; and its graphs' logits on the
    way through the texts that were compared.

    Args:
        request: name, texts for the card, storage.
        checkpoint: the torch model.
        data: texts of which some are compared.
        folder: where the graphs are written.
        say: prints each stage.

    Raises:
        ParityFailed: the graphs do not write what the checkpoint writes.
        ExportFailed: its encoder cannot become a graph.
    """
    trial = Decoder(**{**_SHAPE, **checkpoint.decoder_fields})  # the task reads of it what rows do not depend on
    task = checkpoint.task(trial)
    options = replace(task.golden_options(), truncation="truncate")
    rows = different_rows(encode_all(task, options, [example.item for example in data.examples]))
    exported = export_writer(checkpoint.model, rows, folder, checkpoint.known, **checkpoint.decoder_fields)
    graphs = Graphs(exported.encoder_file, exported.graph, exported.decoder_file, exported.decoder)
    encoder = f"encoder {_megabytes(graphs.encoder_file)}, " if graphs.has_encoder else ""
    say("export", f"{encoder}step of the decoder {_megabytes(graphs.decoder_file)}")
    task = checkpoint.task(graphs.decoder)
    reference = WriterReference(checkpoint.model, checkpoint.known)
    engine = open_engine(graphs, checkpoint.max_tokens)
    sampling: SamplingParams = task.sampling(options)
    say("", f"each text up to {sampling.max_new_tokens} tokens, greedily")
    outputs, logits = engine.generate(rows, sampling), list[np.ndarray]()
    reference.write_each(rows, sampling, graphs.decoder.eos_token_ids, outputs)
    exported_parity = verify_exported(reference, graphs, outputs, logits)
    say("verify", describe_parity(exported_parity))
    graphs, parity = _stored(graphs, reference, request.storage or "fp16", folder, exported_parity, logits, say)
    return _version(request, checkpoint, graphs, parity, exported_parity), ComputedReference(reference.written, logits)


def _stored(
    graphs: Graphs,
    reference: WriterReference,
    storage: str,
    folder: Path,
    exported: Parity,
    logits: list[np.ndarray],
    say: Say,
) -> tuple[Graphs, Parity]:
    """The graphs with their weights stored so, under the names that they are published under, and their parity; `logits` are
    theirs then."""
    if storage == "fp32":
        file = move(graphs.encoder_file, folder / MODEL)
        return replace(graphs, encoder_file=file, decoder_file=graphs.decoder_file if graphs.has_encoder else file), exported
    small = folder / "small"
    small.mkdir()
    graph = quantize_weights(graphs.encoder_file, small / MODEL, graphs.graph, storage)  # type: ignore[arg-type]
    # what a graph's entry says of its storage is all that is read of it
    decoder_file, entry = small / MODEL, graph
    if graphs.has_encoder:
        decoder_file = small / DECODER
        entry = quantize_weights(graphs.decoder_file, decoder_file, graphs.graph, storage)  # type: ignore[arg-type]
    decoder = graphs.decoder.model_copy(update={"storage": entry.storage})
    stored = Graphs(small / MODEL, graph, decoder_file, decoder)
    say("quantize", f"{_megabytes(*stored.files)}, weights as {storage}")
    logits.clear()
    parity = verify_stored(reference, stored, logits)
    say("verify", describe_parity(parity))
    return stored, parity


def _version(
    request: ImportRequest,
    checkpoint: WriterCheckpoint,
    graphs: Graphs,
    parity: Parity,
    exported: Parity,
) -> VersionContents:
    recipe, source, training = request.recipe, checkpoint.source.name, checkpoint.training
    evaluation = {
        "headline": {},
        "parity": {"fp32": parity.model_dump()},
        "parity_before_compaction": exported.model_dump(),
        "command": request.command,
    }
    golden = golden_answers(
        checkpoint.training,
        checkpoint.task(graphs.decoder),
        graphs,
        checkpoint.max_tokens,
        checkpoint.training.golden_items(recipe),
        leaves_out=not recipe.golden,  # of the usual ones those that the model cannot read
    )
    decoder = graphs.decoder.model_copy(update={"tokenizer": TARGET_TOKENIZER if checkpoint.tokenizer.target else ""})
    return VersionContents(
        name=recipe.name,
        task=training.name,
        description=recipe.description or f"A model for {training.name}, made from {source}.",
        license=recipe.license,
        base_model=source,
        max_tokens=checkpoint.max_tokens,
        tokenizer=checkpoint.tokenizer.definition,
        task_options=checkpoint.task_options,
        verified=VerifiedGraph(graphs.encoder_file, graphs.graph, {"fp32": parity}, exported, Predictions([], [], [])),
        evaluation=evaluation,
        golden=golden,
        card="",
        decoder=decoder,
        decoder_files=files_of(graphs.decoder_file) if graphs.has_encoder else (),
        target_tokenizer=checkpoint.tokenizer.target,
    )


def _card(request: ImportRequest, checkpoint: WriterCheckpoint, data: EvalData, contents: VersionContents) -> str:
    source, verified, graphs = checkpoint.source.name, contents.verified, graphs_of(contents)
    architecture, num_weights = type(checkpoint.model).__name__, checkpoint.model.num_parameters()
    origin = [
        f"The checkpoint {source} ({architecture}, {num_weights:,} weights), published with",
        f"```sh\n{request.command}\n```",
        *(f"{note[0].upper()}{note[1:]}." for note in checkpoint.notes),
        ROWS,
    ]
    size = sum(map(num_bytes, graphs.files))
    figures = {"before quantization": verified.exported, **verified.parity}
    return write_imported_card(
        request.recipe, contents.task, source, contents.max_tokens, size, contents.evaluation, origin, figures, data.origin
    )


_SHAPE = {"file": DECODER, "num_layers": 1, "num_heads": 1, "head_size": 8, "vocab_size": 1, "max_length": SERVED}
"""Of a decoder that is not there yet."""


def _longest_source(model: Any, tokenizer: Any) -> int:
    """Tokens of the longest text that the encoder reads; without one, of a text and what continues it."""
    if not model.config.is_encoder_decoder:
        return min(num_causal_positions(model.config), longest_of_tokenizer(tokenizer), SERVED)
    config = getattr(model.config, "encoder", model.config)
    table = getattr(config, "max_position_embeddings", None) or SERVED
    return min(int(table), longest_of_tokenizer(tokenizer), SERVED)


def _max_tokens(requested: int, limit: int, usual: int) -> int:
    if not 8 <= (requested or limit) <= limit:
        raise InvalidSettings(f"--max-tokens is {requested or limit}; this model reads between 8 and {limit}")
    return requested or min(limit, usual)


def _megabytes(*files: Path) -> str:
    return f"{sum(map(num_bytes, files)) / 1e6:.1f} MB"
