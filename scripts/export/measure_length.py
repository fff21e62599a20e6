"""measured: a published version gets another longest input, after its graph was run on texts that fill it."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import Manifest, Parity, read_manifest, refuse_unlisted, verify_files
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.tokenizer import Tokenizer
from scripts.export.add_drift_reference import write_manifest
from scripts.export.engine_trials import try_engines
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.variants import VARIANTS
from scripts.export.verified_graph import Say, describe_parity
from scripts.export.verify import Comparison, ParityFailed, Reference, check_neighbours
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import predict
from scripts.training.pretrained import SERVED, first_line
from scripts.training.recipe import Recipe

SHORTEST = 8
POSITIONS = "position_ids"
TOKENS = {True: 102_400, False: 32_768}
"""Of all texts together, given ones and built-in ones: of longer texts there are fewer."""
NUM_TEXTS, FEWEST_TEXTS = 200, 8
ERROR_GROWTH, ERROR_FLOOR = 3.0, 0.01
"""How many times as far a logit may lie from fp32 in long texts as in the same ones before they are joined; what is below the
floor is no difference."""
GOLDEN_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Opened:
    """A published version, and the parts of it that do not depend on its limit."""

    folder: Path
    manifest: Manifest
    offline: TrainingTask
    session: EncoderEngine

    def task(self, max_tokens: int) -> Any:
        tokenizer = Tokenizer.from_file(self.folder / self.manifest.tokenizer, max_tokens)
        return self.offline.serving_task(tokenizer, self.manifest.task_options)

    def answers(self, examples: Sequence[Example], max_tokens: int) -> Reference:
        """Of the graph in fp32, with this limit."""
        task = self.task(max_tokens)
        options = self.offline.serving_options()
        predictions = predict(task, options, [one.item for one in examples], self.session, "measuring")
        return Reference(self.offline, task, self.manifest.task_options, examples, predictions)


def measure_length(folder: Path, recipe: Recipe, say: Say) -> Manifest:
    """Give the version this limit, and write it into its manifest; every other file stays as it is: it is the same version.

    torch is not asked: its model is not there any more. The published graph in fp32 is what its other forms are compared with,
    on texts joined until they fill the limit. Of texts that somebody gave, a form must decide as many alike as at publishing.
    The built-in ones are of no model's kind, and hard to decide for any: there its logits may not be less exact than on the
    same texts before they are joined, with the old limit. How good the model is on long texts is not measured.

    Args:
        folder: the published version.
        recipe: `max_tokens` is the new limit, larger or smaller; `validation` or `data` names texts of the model's own kind,
            without any, built-in ones are taken.
        say: told what is compared, and what came of it.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the graph cannot read so much, or the golden requests would be read otherwise.
        ParityFailed: a form decides otherwise, rows feel their neighbours, or golden answers do not come back.
        SetupError: this processor cannot compare a form, or the manifest cannot be written.
    """
    version = _open(folder)
    before, max_tokens = version.manifest.max_tokens, recipe.max_tokens
    if not SHORTEST <= max_tokens <= SERVED:
        raise InvalidSettings(f"--max-tokens is {max_tokens}; the service reads between {SHORTEST} and {SERVED}")
    if max_tokens == before:
        raise InvalidSettings(f"{folder} reads up to {before} tokens already")
    texts = load_eval_data(version.offline, version.manifest.task_options, recipe)
    _check_golden(version, max_tokens)
    _check_positions(version, texts.examples[0], max_tokens)
    long = _long_examples(version, texts, max_tokens)
    reference = version.answers(long, max_tokens)
    rows = [row for one in reference.predictions.encoded for row in one.rows]
    say("load", f"{len(long)} texts of up to {max(row.num_tokens for row in rows):,} tokens, joined from {texts.origin}")
    short = None if texts.is_own else version.answers(texts.examples, before)
    parity = _compared(version, reference, short, say)
    graph_file = folder / version.manifest.graph.file
    engines = {**version.manifest.engines, **try_engines(graph_file, version.manifest.graph, rows)}
    changed = version.manifest.model_copy(update={"max_tokens": max_tokens, "length_parity": parity, "engines": engines})
    write_manifest(folder, changed)
    return changed


def _open(folder: Path) -> Opened:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    refuse_unlisted(folder, manifest)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    return Opened(folder, manifest, training_task(manifest.task), session)


def _check_golden(version: Opened, max_tokens: int) -> None:
    """The golden answers must come back at every load, whatever the limit."""
    golden = json.loads((version.folder / version.manifest.golden).read_text(encoding="utf-8"))
    items, options = [version.offline.item(one["item"]) for one in golden], version.offline.serving_options()
    task = version.task(max_tokens)
    found = predict(task, options, items, version.session)
    for number, one in enumerate(golden):
        difference = task.golden_difference(found.encoded[number], found.outputs[number], one["answer"], GOLDEN_TOLERANCE)
        if difference:
            raise InvalidSettings(
                f"with {max_tokens} tokens golden request {number} is answered differently than when the version was published"
                f" ({difference}): the limit stays {version.manifest.max_tokens}"
            )


def _check_positions(version: Opened, example: Example, max_tokens: int) -> None:
    places = num_positions(version.folder / version.manifest.graph.file)
    limit = None if places is None else places - version.manifest.graph.position_offset
    if limit is not None and max_tokens > limit:
        raise InvalidSettings(f"--max-tokens is {max_tokens}, but the model has positions for {limit} tokens at most")
    (encoded,) = version.task(version.manifest.max_tokens).encode([example.item], version.offline.serving_options())
    if max_tokens > version.manifest.max_tokens:
        row = _stretched(encoded.rows[0], max_tokens)
        try:
            version.session.run_rows([row])
        except Exception as error:  # whatever the engine raises
            raise InvalidSettings(
                f"--max-tokens is {max_tokens}, but the graph of {version.folder} cannot read so much: {first_line(error)}"
            ) from error


def num_positions(graph_file: Path) -> int | None:
    """Rows of the table in which the graph looks its input `position_ids` up; None where it has none."""
    graph = onnx.load(graph_file, load_external_data=False).graph
    if all(one.name != POSITIONS for one in graph.input):
        return None
    producers = {name: node for node in graph.node for name in node.output}
    tables = {one.name: list(one.dims) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Gather" and _source(node.input[1], producers) == POSITIONS:
            shape = tables.get(_source(node.input[0], producers), [])
            return shape[0] if len(shape) == 2 else None
    return None


def _source(name: str, producers: Mapping[str, Any]) -> str:
    """Where a tensor comes from, through what changes its numbers and not its shape."""
    while name in producers and producers[name].op_type in ("Cast", "DequantizeLinear", "Identity", "Mul"):
        name = producers[name].input[0]
    return name


def _stretched(row: Row, num_tokens: int) -> Row:
    """The row with its last token but one repeated."""
    more, place = num_tokens - row.num_tokens, max(1, row.num_tokens - 1)
    ids, types = list(row.input_ids), list(row.token_type_ids)
    return replace(
        row,
        input_ids=[*ids[:place], *[ids[place - 1]] * more, *ids[place:]],
        token_type_ids=[*types[:place], *[types[place - 1]] * more, *types[place:]],
    )


def _long_examples(version: Opened, texts: EvalData, max_tokens: int) -> list[Example]:
    """Texts joined with others that the model decides alike, until they have between half of the limit and all of it."""
    generator = random.Random(0)
    field = version.offline.long_field
    options = version.offline.serving_options()
    task = version.task(version.manifest.max_tokens)
    examples = list(texts.examples)
    some = examples if len(examples) <= NUM_TEXTS else generator.sample(examples, NUM_TEXTS)
    answers = predict(task, options, [one.item for one in some], version.session).answers
    alike: dict[str, list[Any]] = defaultdict(list)
    for one, answer in zip(some, answers, strict=True):
        alike[_decided(task, answer, options)].append(one.item)
    pieces = Tokenizer.from_file(version.folder / version.manifest.tokenizer, max_tokens).pieces()
    count = min(NUM_TEXTS, max(FEWEST_TEXTS, TOKENS[texts.is_own] // max_tokens))
    made = []
    for number in range(count):
        items = alike[generator.choice(sorted(alike))]
        item = generator.choice(items)
        wanted = max_tokens if number % 2 == 0 else generator.randint(max_tokens // 2, max_tokens)
        parts, length = [getattr(item, field)], 0
        while True:
            length += max(1, len(pieces.encode([parts[-1]])[0]))  # of invisible characters it is 0, however many there are
            if length >= wanted:
                break
            parts.append(getattr(generator.choice(items), field))
        made.append(Example(replace(item, **{field: " ".join(parts)}), None, "joined", f"joined text {number + 1}"))
    return made


def _decided(task: Any, answer: Any, options: Any) -> str:
    decision = task.decision(answer, options)
    return decision.label if decision is not None else ""


def _compared(version: Opened, long: Reference, short: Reference | None, say: Say) -> dict[str, Parity]:
    """What each form decides as the graph in fp32 does.

    Raises:
        ParityFailed: a form misses its gate, a number is not finite, or rows feel their neighbours.
        SetupError: a form cannot be run here.
    """
    manifest, graph = version.manifest, version.manifest.graph
    check_neighbours(version.session, [row for one in long.predictions.encoded for row in one.rows])
    say("verify", "the graph in fp32: all numbers are finite, and rows beside others are answered as alone")
    found: dict[str, Parity] = {}
    for precision, name in graph.variants.items():
        form, file = VARIANTS[precision], version.folder / name
        at_length = form.measure(long, file, graph)
        if at_length is None:
            raise SetupError(f"{form.missing}, so that the form for {precision} cannot be compared here")
        as_before = None if short is None else form.measure(short, file, graph)
        found[precision] = _judged(precision, at_length, as_before, manifest, say)
    bf16 = manifest.parity.get("bf16")
    if bf16 is not None and bf16.passed:
        file = version.folder / graph.file
        in_bf16 = long.measure_bf16(file, graph)
        if in_bf16 is None:
            say("", "in bf16: not compared, for this machine has none")
        else:
            as_before = None if short is None else short.measure_bf16(file, graph)
            found["bf16"] = _judged("bf16", in_bf16, as_before, manifest, say)
    return found


def _judged(precision: str, long: Comparison, short: Comparison | None, manifest: Manifest, say: Say) -> Parity:
    """
    Raises:
        ParityFailed: it misses its gate.
    """
    error = long.parity.max_abs_error
    if short is None:
        passed, said = long.parity.passed, ""
    else:
        passed = not long.num_not_finite and error <= max(ERROR_FLOOR, ERROR_GROWTH * short.parity.max_abs_error)
        said = f" ({short.parity.max_abs_error:.2g} in short ones)"
    say("", f"in {precision}: {describe_parity(long.parity).replace('by torch', 'in fp32')}{said}")
    if not passed:
        raise ParityFailed(
            f"in {precision} texts of that length are computed otherwise than in fp32: {long}{said}; the limit stays"
            f" {manifest.max_tokens}"
        )
    return long.parity.model_copy(update={"passed": True})
