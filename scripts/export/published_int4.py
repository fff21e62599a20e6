"""A published version that continues texts gets a form of its decoder's step in int4, as the next version."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from app.core.artefact import next_release
from app.core.errors import InvalidSettings
from app.core.manifest import Decoder
from scripts.export.card import describe_form
from scripts.export.eval_data import load_eval_data
from scripts.export.formatting import Say
from scripts.export.publish import CARD, EVALUATION, as_json
from scripts.export.published import OpenVersion, open_folder
from scripts.export.seq2seq.golden import golden_answers, with_rows_of
from scripts.export.seq2seq.int4 import INT4_DECODER, write_int4_step
from scripts.export.seq2seq.int8 import GATE, HeldOut, Int8Comparison, in_form, measure_int8
from scripts.export.seq2seq.loss import Loss, measure_loss
from scripts.export.seq2seq.steps import Graphs, different_rows
from scripts.export.verify import ParityFailed
from scripts.training.evaluation import encode_all
from scripts.training.recipe import Recipe


def publish_int4(folder: Path, recipe: Recipe, models: Path, say: Say, accepted_loss: float | None = None) -> Path:
    """Give a version that continues texts a form of its step in int4: the next version has the same weights, and it besides.

    Args:
        recipe: as for `publish_variants`.
        models: where the next version is published.
        say: told what is compared, and what came of it.
        accepted_loss: where the form does not pass the gate it is published nevertheless if the perplexity of the texts grows
            by no larger share than this; None: never. Whoever asks for int4 gets it then, with that figure beside it.

    Returns:
        The next version's folder.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: it has that form already or can have none, or the items cannot be used.
        ParityFailed: it writes otherwise too often, and loses more than is accepted.
        SetupError: nothing can be written.
    """
    version = open_folder(folder, may_write=True)
    decoder = version.manifest.decoder
    if decoder is None or decoder.has_encoder:
        raise InvalidSettings(f"{version.name} does not continue texts; int4 is for models that do")
    return _publish_int4_step(version, decoder, recipe, models, say, accepted_loss)


def _publish_int4_step(
    version: OpenVersion, decoder: Decoder, recipe: Recipe, models: Path, say: Say, accepted_loss: float | None
) -> Path:
    manifest, training, task = version.manifest, version.training, version.task
    if "int4" in decoder.variants:
        raise InvalidSettings(f"{version.folder} has an int4 variant already")
    data = load_eval_data(training, manifest.task_options, recipe, manifest.data_format)
    say("load", data.origin)
    with next_release(models, manifest.name, serves=False) as release:
        folder = release.staging
        release.add_files(version.artefact)
        graphs = Graphs(folder / manifest.graph.file, manifest.graph, folder / decoder.file, decoder)
        formed = in_form(graphs, folder / INT4_DECODER)
        if not write_int4_step(graphs.decoder_file, formed.decoder_file):
            raise InvalidSettings(f"the decoder of {version.name} has nothing to compute in int4")
        held_out = HeldOut(training, task, manifest.task_options, data.examples, data.is_labelled)
        comparison = measure_int8(graphs, formed.decoder_file, manifest.max_tokens, held_out, "int4")
        say("verify", str(comparison))
        options = replace(task.golden_options(), truncation="truncate")
        rows = different_rows(encode_all(task, options, [example.item for example in data.examples]))
        loss = measure_loss(graphs, formed, rows)
        say("", str(loss))
        comparison = with_loss(comparison, loss, accepted_loss)
        texts = _int4_texts(version, graphs, formed, comparison, data.origin)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        update = {
            "decoder": decoder.model_copy(update={"variants": {**decoder.variants, "int4": INT4_DECODER}}),
            "parity": {**manifest.parity, "int4": comparison.parity},
            "files": {name: entry for name, entry in manifest.files.items() if name not in texts},
        }
        release.seal(manifest.model_copy(update=update))
    return release.folder


def _int4_texts(
    version: OpenVersion, graphs: Graphs, formed: Graphs, comparison: Int8Comparison, compared_on: str
) -> dict[str, str]:
    """Files that say more than before: golden answers, in int4 too, which is further from fp32 than near ties tell; figures;
    and the card."""
    manifest, folder = version.manifest, graphs.decoder_file.parent
    requests = [request["item"] for request in json.loads((folder / manifest.golden).read_bytes())]
    golden, own = (
        golden_answers(version.training, version.task, written, manifest.max_tokens, requests) for written in (graphs, formed)
    )
    evaluation = {**json.loads((folder / EVALUATION).read_bytes()), "int4": comparison.as_json()}
    card = (folder / CARD).read_text(encoding="utf-8") + describe_form("int4", comparison.parity, str(comparison), compared_on)
    return {manifest.golden: as_json(with_rows_of("int4", golden, own)), EVALUATION: as_json(evaluation), CARD: card}


def with_loss(comparison: Int8Comparison, loss: Loss, accepted: float | None) -> Int8Comparison:
    """With what the form loses; one that failed, and loses no more than is accepted, says so.

    Raises:
        ParityFailed: it failed, and loses more.
    """
    parity = comparison.parity.model_copy(update={"perplexity_loss": round(loss.share, 4)})
    if not parity.passed:
        if accepted is None or not loss.share <= accepted:
            needed = max(0, math.ceil(100 * loss.share)) if math.isfinite(loss.share) else None
            offer = (
                f"; --accept-loss {needed} publishes it nevertheless, for those who ask for int4" if needed is not None else ""
            )
            raise ParityFailed(f"the decoder in int4 writes worse than in fp32: {comparison}; {loss}; {GATE}{offer}")
        parity = parity.model_copy(update={"accepted_loss": accepted})
    return replace(comparison, parity=parity)
