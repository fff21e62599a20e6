"""A published version gets another max input length, once its graph was compared on texts that fill it."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from app.core.artefact import replace_manifest
from app.core.errors import InvalidSettings
from app.core.manifest import Manifest, Parity
from app.core.types import Row
from scripts.export.engine_trials import try_engines
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.formatting import Say, describe_parity
from scripts.export.published import OpenVersion, open_folder
from scripts.export.variants import VARIANTS
from scripts.export.verify import Comparison, ParityFailed, Reference, check_neighbours
from scripts.training.data import Example
from scripts.training.pretrained import SERVED, first_line
from scripts.training.recipe import Recipe

SHORTEST = 8
POSITIONS = "position_ids"
TOKENS = {True: 102_400, False: 32_768}
"""Of all texts together, where they are the model's own or built-in: of longer texts there are fewer."""
NUM_TEXTS, MIN_TEXTS = 200, 8
ERROR_GROWTH, ERROR_FLOOR = 3.0, 0.01
"""How many times as far a logit may lie from fp32 in long texts as in the same ones before they are joined; what is below the
floor is no difference."""
GOLDEN_TOLERANCE = 1e-3


def measure_length(folder: Path, recipe: Recipe, say: Say) -> Manifest:
    """Give the version this limit, and write it into its manifest; every other file stays as it is: it is the same version.

    torch is not asked: its model is not there any more. The published graph in fp32 is what its variants are compared with, on
    texts joined until they fill the limit. Of texts that somebody gave, as many predictions must agree as at publishing. The
    built-in ones are of no model's kind, and hard to decide for any: there logits may not be less exact than on the same texts
    before they are joined, with the old limit. How good the model is on long texts is not measured.

    Args:
        recipe: `max_tokens` is the new limit, larger or smaller; `validation` or `data` names texts of the model's own kind,
            without any, built-in ones are taken.
        say: told what is compared, and what came of it.

    Raises:
        InvalidArtefact: the folder is broken or altered.
        InvalidSettings: the graph cannot read so much, or the golden requests would be read otherwise.
        ParityFailed: predictions of a variant differ, rows feel their neighbours, or golden answers do not come back.
        SetupError: the manifest cannot be written.
    """
    version = open_folder(folder)
    manifest, max_tokens = version.manifest, recipe.max_tokens
    if not SHORTEST <= max_tokens <= SERVED:
        raise InvalidSettings(f"--max-tokens is {max_tokens}; the service reads between {SHORTEST} and {SERVED}")
    if max_tokens == manifest.max_tokens:
        raise InvalidSettings(f"{folder} reads up to {max_tokens} tokens already")
    data = load_eval_data(version.training, manifest.task_options, recipe, manifest.data_format)
    _check_golden(version, max_tokens)
    _check_positions(version, data.examples[0], max_tokens)
    long = version.answers(_long_examples(version, data, max_tokens), max_tokens)
    longest = max(row.num_tokens for row in long.rows)
    say("load", f"{len(long.examples)} texts of up to {longest:,} tokens, joined from {data.origin}")
    short = None if data.is_own else version.answers(data.examples)
    parity = _compare_precisions(version, long, short, say)
    engines = {**manifest.engines, **try_engines(version.graph_file, manifest.graph, long.rows)}
    update = {"max_tokens": max_tokens, "length_parity": parity, "engines": engines}
    changed = manifest.model_copy(update=update)
    replace_manifest(version.artefact, changed)
    return changed


def _check_golden(version: OpenVersion, max_tokens: int) -> None:
    """The golden answers must come back at every load, whatever the limit.

    Raises:
        InvalidSettings: one of them would not.
    """
    golden = json.loads((version.folder / version.manifest.golden).read_text(encoding="utf-8"))
    examples = [Example(version.training.item(request["item"]), None, "golden", "golden") for request in golden]
    answers = version.answers(examples, max_tokens)
    pairs = zip(golden, answers.predictions.encoded, answers.predictions.outputs, strict=True)
    for number, (request, encoded, outputs) in enumerate(pairs):
        difference = answers.task.golden_difference(encoded, outputs, request["answer"], GOLDEN_TOLERANCE)
        if difference:
            raise InvalidSettings(
                f"with {max_tokens} tokens golden request {number} is answered differently than when the version was published"
                f" ({difference}): the limit stays {version.manifest.max_tokens}"
            )


def _check_positions(version: OpenVersion, example: Example, max_tokens: int) -> None:
    positions = num_positions(version.graph_file)
    limit = None if positions is None else positions - version.manifest.graph.position_offset
    if limit is not None and max_tokens > limit:
        raise InvalidSettings(f"--max-tokens is {max_tokens}, but the model has positions for {limit} tokens at most")
    (encoded,) = version.task.encode([example.item], version.training.serving_options())
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
    if all(tensor.name != POSITIONS for tensor in graph.input):
        return None
    producers = {name: node for node in graph.node for name in node.output}
    tables = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
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


def _long_examples(version: OpenVersion, data: EvalData, max_tokens: int) -> list[Example]:
    """Texts joined with others of the same predicted label, until they have between half of the limit and all of it."""
    generator = random.Random(0)
    field, task, options = version.training.long_field, version.task, version.training.serving_options()
    examples = list(data.examples)
    some = examples if len(examples) <= NUM_TEXTS else generator.sample(examples, NUM_TEXTS)
    by_label: dict[str, list[Any]] = defaultdict(list)
    for example, answer in zip(some, version.answers(some).predictions.answers, strict=True):
        decision = task.decision(answer, options)
        by_label[decision.label if decision is not None else ""].append(example.item)
    pieces = version.tokenizer(max_tokens).pieces()
    long = []
    for number in range(min(NUM_TEXTS, max(MIN_TEXTS, TOKENS[data.is_own] // max_tokens))):
        items = by_label[generator.choice(sorted(by_label))]
        item = generator.choice(items)
        target = max_tokens if number % 2 == 0 else generator.randint(max_tokens // 2, max_tokens)
        parts, length = [getattr(item, field)], 0
        while True:
            length += max(1, len(pieces.encode([parts[-1]])[0]))  # of invisible characters it is 0, however many there are
            if length >= target:
                break
            parts.append(getattr(generator.choice(items), field))
        long.append(Example(replace(item, **{field: " ".join(parts)}), None, "joined", f"joined text {number + 1}"))
    return long


def _compare_precisions(version: OpenVersion, long: Reference, short: Reference | None, say: Say) -> dict[str, Parity]:
    """Agreement of each variant, and of bf16, with the graph in fp32.

    Raises:
        ParityFailed: a variant misses its gate, a number is not finite, or rows feel their neighbours.
    """
    manifest, graph = version.manifest, version.manifest.graph
    check_neighbours(version.session, long.rows)
    say("verify", "the graph in fp32: all numbers are finite, and rows beside others are answered as alone")
    parity: dict[str, Parity] = {}
    for precision, name in graph.variants.items():
        variant, file = VARIANTS[precision], version.folder / name
        at_length = variant.measure(long, file, graph)
        before = None if short is None else variant.measure(short, file, graph)
        parity[precision] = _passed(precision, at_length, before, manifest, say)
    if "bf16" in manifest.parity and manifest.parity["bf16"].passed:
        in_bf16 = long.measure_bf16(version.graph_file, graph)
        if in_bf16 is None:
            say("", "in bf16: not compared, for this machine has none")
        else:
            before = None if short is None else short.measure_bf16(version.graph_file, graph)
            parity["bf16"] = _passed("bf16", in_bf16, before, manifest, say)
    return parity


def _passed(precision: str, long: Comparison, short: Comparison | None, manifest: Manifest, say: Say) -> Parity:
    """
    Raises:
        ParityFailed: it misses its gate.
    """
    error, note = long.parity.max_abs_error, ""
    passed = long.parity.passed
    if short is not None:
        passed = not long.num_not_finite and error <= max(ERROR_FLOOR, ERROR_GROWTH * short.parity.max_abs_error)
        note = f" ({short.parity.max_abs_error:.2g} in short ones)"
    say("", f"in {precision}, {describe_parity(long.parity, 'fp32')}{note}")
    if not passed:
        raise ParityFailed(
            f"in {precision} texts of that length are computed otherwise than in fp32: {long}{note}; the limit stays"
            f" {manifest.max_tokens}"
        )
    return long.parity.model_copy(update={"passed": True})
