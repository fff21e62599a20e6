"""A published version opened again: to be asked as it is served, to get a variant as the next version, or a drift reference."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.artefact import (
    Artefact,
    is_version,
    latest_version,
    next_release,
    open_artefact,
    read_serving,
    replace_manifest,
    serving_version,
)
from app.core.errors import InvalidArtefact, InvalidSettings
from app.core.manifest import Decoder, DriftReference, EngineTrial, Manifest, Parity
from app.core.types import Device, Precision
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import DeviceChoice, choices_of_auto, choose_provider
from app.tasks.tokenizer import Tokenizer
from scripts.export.engine_trials import told_engines
from scripts.export.eval_data import load_eval_data
from scripts.export.formatting import Say, describe_metrics, describe_parity
from scripts.export.publish import EVALUATION, as_json
from scripts.export.seq2seq.golden import golden_answers
from scripts.export.seq2seq.int8 import GATE, INT8_DECODER, HeldOut, compare_forms, write_int8_step
from scripts.export.seq2seq.rows import write_int8_rows
from scripts.export.seq2seq.runner import WriterRunner
from scripts.export.seq2seq.steps import Graphs
from scripts.export.variants import Variant
from scripts.export.verify import BF16_ROWS, ParityFailed, Reference
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import drift_reference, predict
from scripts.training.recipe import PACKAGED, Recipe
from scripts.training.seq2seq.tokenizer import PairTokenizer


@dataclass(frozen=True)
class OpenVersion:
    """One published version with its graph loaded."""

    artefact: Artefact
    training: TrainingTask
    task: Any
    """The production task, with the version's own limit."""
    session: Any
    """An `EncoderEngine`, or of a model that writes a `WriterRunner`."""

    @property
    def folder(self) -> Path:
        return self.artefact.folder

    @property
    def manifest(self) -> Manifest:
        return self.artefact.manifest

    @property
    def name(self) -> str:
        return self.artefact.id

    @property
    def graph_file(self) -> Path:
        return self.folder / self.manifest.graph.file

    def tokenizer(self, max_tokens: int = 0) -> Tokenizer:
        return Tokenizer.from_file(self.folder / self.manifest.tokenizer, max_tokens or self.manifest.max_tokens)

    def answers(self, examples: Sequence[Example], max_tokens: int = 0) -> Reference:
        """Of the loaded graph, with this limit or its own."""
        task = _task(self.training, self.artefact, max_tokens) if max_tokens else self.task
        items = [example.item for example in examples]
        predictions = predict(task, self.training.serving_options(), items, self.session)
        return Reference(self.training, task, self.manifest.task_options, examples, predictions)


def open_version(model: str, models: Path, device: DeviceChoice = "cpu", may_write: bool = False) -> OpenVersion:
    """Read, verify and load what a person named: `name`, `name/version`, or a folder's path.

    Args:
        may_write: whether a model that writes is of use here.

    Raises:
        InvalidSettings: there is no such version, or none of use.
        InvalidArtefact: the folder is broken or altered.
    """
    for folder in (models / model, Path(model).expanduser()):
        latest = latest_version(folder)
        if latest is not None:
            return open_folder(latest, device, may_write)
    raise InvalidSettings(f"there is no model {model} in {models}, nor a published folder of that path")


def open_folder(folder: Path, device: DeviceChoice = "cpu", may_write: bool = False) -> OpenVersion:
    """
    Args:
        may_write: whether a model that writes is of use here.

    Raises:
        InvalidArtefact: the folder is broken or altered, or its tokenizer or its options are nonsense.
        InvalidSettings: it writes, and nothing of that is measured or changed here.
    """
    artefact = open_artefact(folder)
    manifest = artefact.manifest
    if manifest.decoder is not None and not may_write:
        raise InvalidSettings(
            f"{artefact.id} writes its answers; of such models nothing is measured or changed like this: their longest input is"
            " chosen when they are published (`hooper models add CHECKPOINT --max-tokens N`), and they compute in fp32 or int8"
        )
    training = training_task(manifest.task)
    try:
        task = _task(training, artefact, manifest.max_tokens)
    except InvalidArtefact as error:
        raise InvalidArtefact(f"{artefact.id}: {error.detail}") from error
    provider = choose_provider(device)
    if device == "auto":
        provider = choices_of_auto(provider, manifest)[0]
    parity = manifest.parity.get(provider.precision)
    if provider.precision != "fp32" and not (parity and parity.passed):  # as the service does
        provider = provider.in_fp32("its own precision did not pass")
    file = folder / manifest.graph.file
    if manifest.decoder is None:
        return OpenVersion(artefact, training, task, EncoderEngine(file, manifest.graph, provider))
    graphs = Graphs(file, manifest.graph, folder / manifest.decoder.file, manifest.decoder)
    writer = WriterRunner(graphs, manifest.max_tokens, task.sampling(training.serving_options()))
    return OpenVersion(artefact, training, task, writer)


def _task(training: TrainingTask, artefact: Artefact, max_tokens: int) -> Any:
    """The production task, with this limit."""
    folder, manifest = artefact.folder, artefact.manifest
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, max_tokens)
    decoder = manifest.decoder
    if decoder is not None:
        target = (folder / decoder.tokenizer).read_text(encoding="utf-8") if decoder.tokenizer else ""
        tokenizer = PairTokenizer(tokenizer.definition, max_tokens, decoder, target)
    return training.serving_task(tokenizer, manifest.task_options)


def find_version(version: str, models: Path) -> Path:
    """Folder of a version that is named in full, `name/version` or a path: what changes a version never guesses which.

    Raises:
        InvalidSettings: no version is there.
    """
    for folder in (Path(version).expanduser(), models / version):
        if is_version(folder):
            return folder
    raise InvalidSettings(f"there is no version {version} in {models}; write NAME/VERSION, or the path of a version's folder")


def find_serving(name: str, models: Path) -> Path | None:
    """Folder of what a training begins with, where that is a published version: named in full, or of a model in the repository
    or a model's folder, the version that serves. None where it is something else, as a folder of transformers or a hub id.

    Raises:
        InvalidSettings: `NAME/NUMBER` is no version, and no folder.
        InvalidArtefact: which version serves cannot be read.
    """
    if name in PACKAGED:
        return None
    path = Path(name).expanduser()
    for folder in (path, models / name):
        if is_version(folder):
            return folder
        version = serving_version(folder, read_serving(folder))
        if version is not None:
            return folder / str(version)
        if folder.is_dir():
            return None
    return find_version(name, models) if path.name.isdecimal() else None


def with_version(name: str, models: Path) -> str:
    """The same name with the number of the version that serves, where it names a model: so it means the same tomorrow.

    Raises:
        InvalidSettings, InvalidArtefact: as for `find_serving`.
    """
    folder = find_serving(name, models)
    is_complete = folder is None or folder in (Path(name).expanduser(), models / name)
    return name if is_complete else str(Path(name) / folder.name)  # type: ignore[union-attr]


def publish_variants(variants: Sequence[Variant], folder: Path, recipe: Recipe, models: Path, say: Say) -> Path:
    """Give a version other variants: the next version has the same weights, and beside them those variants that pass.

    Args:
        variants: which ones; of several, those that it has not and can have.
        recipe: with `data`, the one that the version was trained by: then its held-out rows are read; else `validation`
            names files of held-out items, labelled or not.
        models: where the next version is published.
        say: told what is compared, and what came of it.

    Returns:
        The next version's folder.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: it has them already or can have none, or the items cannot be used.
        ParityFailed: the predictions of all of them differ from the graph's in fp32 too often, or rows feel their neighbours.
        SetupError: nothing can be written.
    """
    version = open_folder(folder, may_write=variants[0].precision == "int8")
    manifest, graph = version.manifest, version.manifest.graph
    if manifest.decoder is not None:
        return _publish_int8_step(version, manifest.decoder, recipe, models, say)
    variants = _missing_variants(variants, version)
    reference = version.answers(_drawn_examples(variants[0].max_rows, version, recipe, say))
    # its predictions are nearly those of the version that it is made from, which is no reason to serve another one
    with next_release(models, manifest.name, serves=False) as release:
        release.add_files(version.artefact)
        parity = _add_variants(variants, version, release.staging, reference, say)
        engines = told_engines(version.graph_file, graph, reference.rows, say)
        release.seal(_with_variants(manifest, variants, parity, engines))
    return release.folder


def _with_variants(
    manifest: Manifest, variants: Sequence[Variant], parity: Mapping[Precision, Parity], engines: Mapping[Device, EngineTrial]
) -> Manifest:
    """The manifest with those that passed; how the others did is noted, too."""
    files = {entry.precision: entry.file for entry in variants if entry.precision in parity and parity[entry.precision].passed}
    update: dict[str, Any] = {
        "engines": {**manifest.engines, **engines},
        "graph": manifest.graph.model_copy(update={"variants": {**manifest.graph.variants, **files}}),
        "parity": {**manifest.parity, **parity},
    }
    return manifest.model_copy(update=update)


def _missing_variants(variants: Sequence[Variant], version: OpenVersion) -> list[Variant]:
    """Those that the version can have and has not; raises `InvalidSettings` where there are none."""
    graph, folder = version.manifest.graph, version.folder
    names = " or ".join(variant.precision for variant in variants)
    possible = [variant for variant in variants if graph.storage in variant.storages]
    if not possible:
        storages = " or ".join(sorted(frozenset[str]().union(*(variant.storages for variant in variants))))
        raise InvalidSettings(
            f"{folder} is stored as {graph.storage}; only models stored as {storages} have an {names} variant"
        )
    missing = [variant for variant in possible if variant.precision not in graph.variants]
    if not missing:
        names = " and an ".join(variant.precision for variant in possible)
        raise InvalidSettings(f"{folder} has an {names} variant already")
    return missing


def _add_variants(
    variants: Sequence[Variant], version: OpenVersion, folder: Path, reference: Reference, say: Say
) -> dict[Precision, Parity]:
    """Write those that pass into the folder, and tell how each of them did.

    Raises:
        InvalidSettings: the graph can have none.
        ParityFailed: none passed.
    """
    parity: dict[Precision, Parity] = {}
    failures: list[str] = []
    graph = version.manifest.graph
    for variant in variants:
        file = folder / variant.file
        if not variant.write(folder / graph.file, file, graph):
            continue
        comparison = variant.measure(reference, file, graph)
        parity[variant.precision] = comparison.parity
        say("verify", f"in {variant.precision}, {describe_parity(comparison.parity, 'fp32')}")
        if not comparison.parity.passed:
            failures.append(f"the {variant.precision} variant predicts otherwise too often: {comparison}")
            file.unlink()
    if not parity:
        raise InvalidSettings(f"the graph of {version.name} has nothing to compute in {variants[0].precision}")
    if len(failures) == len(parity):
        raise ParityFailed("; ".join(failures))
    return parity


def _drawn_examples(max_rows: int, version: OpenVersion, recipe: Recipe, say: Say) -> Sequence[Example]:
    """Held-out ones, as many as a precision is judged by at most; 0: all."""
    data = load_eval_data(version.training, version.manifest.task_options, recipe, version.manifest.data_format)
    say("load", data.origin)
    if not 0 < max_rows < len(data.examples):
        return data.examples
    examples = random.Random(recipe.seed).sample(list(data.examples), max_rows)
    say("", f"{len(examples):,} of them are drawn")
    return examples


def _publish_int8_step(version: OpenVersion, decoder: Decoder, recipe: Recipe, models: Path, say: Say) -> Path:
    """As `publish_variants`, of a model that writes: the form is one of its decoder's step. Its golden answers are written
    anew, since older ones do not say how sure each token was.

    Raises:
        InvalidSettings: it has such a form already or can have none.
        ParityFailed: it is worse in int8.
    """
    manifest, training = version.manifest, version.training
    if "int8" in decoder.variants:
        raise InvalidSettings(f"{version.folder} has an int8 variant already")
    data = load_eval_data(training, manifest.task_options, recipe, manifest.data_format)
    say("load", data.origin)
    with next_release(models, manifest.name, serves=False) as release:
        release.add_files(version.artefact)
        graphs = Graphs(release.staging / manifest.graph.file, manifest.graph, release.staging / decoder.file, decoder)
        file = release.staging / INT8_DECODER
        held_out = HeldOut(training, version.task, manifest.task_options, data.examples, data.is_labelled)
        comparison = compare_forms((write_int8_rows, write_int8_step), graphs, file, manifest.max_tokens, held_out, say)
        if comparison is None:
            raise InvalidSettings(f"the decoder of {version.name} has nothing to compute in int8")
        say("verify", str(comparison))
        if not comparison.parity.passed:
            raise ParityFailed(f"the decoder in int8 writes worse than in fp32: {comparison}; {GATE}")
        requests = [request["item"] for request in json.loads((release.staging / manifest.golden).read_bytes())]
        golden = golden_answers(training, version.task, graphs, manifest.max_tokens, requests)
        (release.staging / manifest.golden).write_text(as_json(golden), encoding="utf-8")
        evaluation = {**json.loads((release.staging / EVALUATION).read_bytes()), "int8": comparison.as_json()}
        (release.staging / EVALUATION).write_text(as_json(evaluation), encoding="utf-8")
        update = {
            "decoder": decoder.model_copy(update={"variants": {"int8": file.name}}),
            "parity": {**manifest.parity, "int8": comparison.parity},
            "files": {name: entry for name, entry in manifest.files.items() if name not in (manifest.golden, EVALUATION)},
        }
        release.seal(manifest.model_copy(update=update))
    return release.folder


def add_bf16_agreement(folder: Path, recipe: Recipe, say: Say) -> Parity:
    """Measure how a version's graph answers in bf16, compared with itself in fp32, and write it into its manifest; it stays the
    same version, and passed or not: the service computes in bf16 only where it passed.

    Args:
        recipe: as for `publish_variants`.
        say: told what is compared, and what came of it.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the items cannot be used, or the graph is too large to be rounded.
        SetupError: the manifest cannot be written.
    """
    version = open_folder(folder)
    manifest = version.manifest
    comparison = version.answers(_drawn_examples(BF16_ROWS, version, recipe, say)).measure_bf16(
        version.graph_file, manifest.graph
    )
    if comparison is None:
        raise InvalidSettings(f"the graph of {version.name} cannot be computed in bf16 on this machine, nor rounded")
    say("verify", f"in bf16, {comparison}")
    replace_manifest(version.artefact, manifest.model_copy(update={"parity": {**manifest.parity, "bf16": comparison.parity}}))
    return comparison.parity


def add_drift_reference(folder: Path, recipe: Recipe, say: Say) -> DriftReference:
    """Measure what held-out items are like to a version, and write it into its manifest; it stays the same version.

    Args:
        recipe: as for `publish_variants`.
        say: told what is counted over, and how the model does on it where that can be told: it should be what its card says.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the items cannot be used, and why.
        SetupError: the manifest cannot be written.
    """
    version = open_folder(folder)
    manifest, training = version.manifest, version.training
    data = load_eval_data(training, manifest.task_options, recipe, manifest.data_format)
    say("load", data.origin)
    predictions = version.answers(data.examples).predictions
    if data.is_labelled:
        figures = training.evaluate(predictions.answers, data.examples, manifest.task_options)["headline"]
        card = f"its card says {describe_metrics(manifest.evaluation)}" if manifest.evaluation else "its card has no figures"
        say("evaluate", f"{describe_metrics(figures)}; {card}")
    reference = drift_reference(version.task, training.serving_options(), version.tokenizer(), predictions)
    replace_manifest(version.artefact, manifest.model_copy(update={"reference": reference}))
    return reference
