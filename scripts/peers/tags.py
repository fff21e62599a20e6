"""Entities beside those of transformers' token classification pipeline, by every strategy, on the same graph.

The pipeline's model is the published ONNX file behind transformers' own classes; what differs is what Hooper wrote itself:
words, groups and scores. An answer is the same where all labels and characters are, and no score differs by more than a
thousandth. Every difference is put down to a reason, or is unexplained.

    python -m scripts.peers.tags --model models/ner/2 ../shared/data/conll2003/validation.jsonl.gz --limit 1000
"""

from __future__ import annotations

import argparse
import sys
import typing
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.modeling_outputs import TokenClassifierOutput

from app.tasks.passage import softmax
from app.tasks.token_classification.task import Aggregation, Entities, TagOptions, TextReading, TokenClassification, keys_of
from scripts.bench.report import measurement_parser, run_measurement
from scripts.export.eval_data import read_labelled
from scripts.export.published import OpenVersion, open_folder
from scripts.peers.judged import TINY, JudgedRows, hub_tokenizer
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, predict, read_again
from scripts.training.recipe import Recipe
from scripts.training.records import read_records

MIN_AGREEMENT = 0.999
"""Share of the texts whose entities are to be the same, by each strategy."""
TIE = 1e-3
"""Difference of scores that rounding may make."""
UNKNOWN = "an unknown piece is a word of its own there"
NORMALIZED = "a piece that is longer or shorter than its characters goes on a word there"
BLANKS = "words are what stands between blanks there"
TIED = "tie"
UNEXPLAINED = "unexplained"


class JudgedTagger(transformers.BertForTokenClassification):
    """The published graph as a model that the pipeline accepts; its torch weights are never used."""

    def __init__(self, version: OpenVersion, labels: Sequence[str]) -> None:
        super().__init__(transformers.BertConfig(**TINY, id2label=dict(enumerate(labels))))  # type: ignore[no-untyped-call]
        self.rows = JudgedRows(version)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """One row; (1, tokens, labels)."""
        types = None if token_type_ids is None else token_type_ids[0].tolist()
        logits: Any = torch.from_numpy(self.rows.read(input_ids[0].tolist(), types))  # (tokens, labels)
        return TokenClassifierOutput(logits=logits[None])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where every strategy gives the same entities and every difference has a reason; else 1."""
    parser = measurement_parser("scripts.peers.tags", __doc__)
    parser.add_argument("data", nargs="+", metavar="DATA", help="files of tagged texts")
    parser.add_argument("--model", type=Path, default=Path("models/ner/2"), help="folder of a published version")
    parser.add_argument("--limit", type=int, default=0, help="texts of each file; 0: all")
    return run_measurement(parser, _judged, arguments)


def _judged(options: argparse.Namespace) -> dict[str, Any]:
    report = compare(options.model, options.data, options.limit)
    by_strategy = report["strategies"].values()
    if any(entry["same"] < MIN_AGREEMENT or UNEXPLAINED in entry["reasons"] for entry in by_strategy):
        report["complaints"] = ["entities differ without a reason"]
    return report


def compare(folder: Path, sources: Sequence[str], limit: int = 0) -> dict[str, Any]:
    """Tag every text both ways, by every strategy.

    Args:
        folder: a published version of a token classification model.
        sources: files of tagged texts.
        limit: of each source the first so many texts; 0: all.

    Returns:
        Shares, reasons and differences. Texts of the data stay out: a difference is told by where it stands. Texts that are
        longer than a window are left out, for the pipeline groups each of its chunks alone, and are counted.
    """
    version = open_folder(folder)
    task = TokenClassification(version.tokenizer(), version.manifest.task_options["labels"])  # scores as the pipeline has them
    examples = [example for source in sources for example in _examples(version, source)[: limit or None]]
    read = predict(task, TagOptions(), [example.item for example in examples], version.session, "Hooper")
    short = [number for number, encoded in enumerate(read.encoded) if len(encoded.rows) == 1]
    model = JudgedTagger(version, task.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that words are guessed where a tokenizer has none
        pipe = transformers.TokenClassificationPipeline(model=model, tokenizer=hub_tokenizer(version), device="cpu")
        strategies = {
            strategy: _compared(strategy, pipe, task, examples, read, short) for strategy in typing.get_args(Aggregation)
        }
    return {
        "model": version.name,
        "graph_sha256": version.manifest.files[version.manifest.graph.file].sha256,
        "transformers": transformers.__version__,
        "texts": len(short),
        "longer_texts": len(examples) - len(short),
        "strategies": strategies,
    }


def _compared(
    strategy: Aggregation,
    pipe: Any,
    task: TokenClassification,
    examples: Sequence[Example],
    read: Predictions,
    numbers: Sequence[int],
) -> dict[str, Any]:
    """Of the examples with these numbers."""
    own = read_again(task, TagOptions(strategy), read).answers
    differences, largest, num_entities = [], 0.0, 0
    for number in numbers:
        reading: TextReading = read.encoded[number].state
        pipe.model.rows.remember(read.encoded[number], read.outputs[number])
        theirs = pipe(examples[number].item.text, aggregation_strategy=strategy)
        num_entities += len(theirs)
        scores = score_differences(own[number], theirs)
        largest = max(largest, scores or 0.0)
        if scores is None or scores > TIE:
            probabilities = softmax(reading.logits(read.outputs[number]))
            reason = difference_reason(pipe.tokenizer, task, reading, probabilities, strategy)
            differences.append({"where": examples[number].where, "reason": reason})
    return {
        "entities": num_entities,
        "same": round(1 - len(differences) / max(1, len(numbers)), 4),
        "largest_difference_of_scores": round(largest, 6),
        "reasons": dict(Counter(difference["reason"] for difference in differences)),
        "differences": differences,
    }


def score_differences(own: Entities, theirs: Sequence[dict[str, Any]]) -> float | None:
    """The largest difference of a score; None where the entities are others."""
    scores = {(entity.get("entity_group", entity.get("entity")), entity["start"], entity["end"]): entity for entity in theirs}
    if keys_of(own) != set(scores):
        return None
    pairs = ((entity.score, scores[entity.label, entity.start, entity.end]["score"]) for entity in own.entities)
    return max((abs(float(score) - float(other)) for score, other in pairs), default=0.0)


def difference_reason(
    tokenizer: Any, task: TokenClassification, reading: TextReading, probabilities: np.ndarray, strategy: Aggregation
) -> str:
    """Why the pipeline finds other entities.

    Args:
        tokenizer: of the pipeline.
        task: the task.
        reading: of the text.
        probabilities: (tokens, labels).
        strategy: by which tokens become entities.
    """
    tokens = reading.tokens
    if strategy not in ("none", "simple"):
        begins = {word.start for word in task.words(tokens, len(tokens))}
        is_word_aware = bool(getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None))  # WordPiece
        for number, (start, end) in enumerate(tokens.offsets):
            text = tokens.text[start:end]
            piece = tokenizer.convert_ids_to_tokens(int(tokens.ids[number]))
            if is_word_aware:
                goes_on, is_normalized = len(piece) != len(text), len(piece.removeprefix("##")) != len(text)
            else:
                goes_on, is_normalized = start > 0 and " " not in tokens.text[start - 1 : start + 1], False
            is_unknown = tokens.ids[number] == tokenizer.unk_token_id
            if number == 0 or (goes_on and not is_unknown) != (number in begins):  # it says of this piece what we say
                continue
            if is_unknown or is_normalized:
                return UNKNOWN if is_unknown else NORMALIZED
            return BLANKS if goes_on and not is_word_aware else UNEXPLAINED
    best = np.sort(probabilities, axis=-1)[:, ::-1]
    return TIED if probabilities.shape[-1] > 1 and (best[:, 0] - best[:, 1]).min() < TIE else UNEXPLAINED


def _examples(version: OpenVersion, source: str) -> list[Example]:
    recipe, records = Recipe(max_bad_share=1.0), {source: read_records(source)}
    examples, _ = read_labelled(version.training, version.manifest.task_options, recipe, records)
    return list(examples)


if __name__ == "__main__":
    sys.exit(main())
