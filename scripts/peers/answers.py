"""Answers beside two independent ones: the same rule written a second time, and transformers' last pipeline for them, 4.57.6.

All get the same graph: the pipeline's model is the published ONNX file behind transformers' own classes. What differs is all
that Hooper wrote itself: windows, offsets, the choice of spans. The second writing of the rule is to agree (99.9 %); of the
pipeline, which reads windows and words otherwise, every different answer is put down to a reason or named.

    python -m scripts.peers.answers --model models/qa/2 data.jsonl.gz --output docs/measurements/qa_pipeline.json
    python -m scripts.peers.answers --model models/qa/2 data.jsonl.gz --window 128 --output …
    python -m scripts.peers.answers --model models/qa/2 data.jsonl.gz --paragraphs 5 --output …
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionAnswering, QuestionItem
from scripts.bench.report import measurement_parser, run_measurement
from scripts.export.eval_data import read_labelled
from scripts.export.published import OpenVersion, open_folder
from scripts.peers.answer_rule import reference_answer, whole_words
from scripts.peers.judged import TINY, JudgedRows, hub_tokenizer
from scripts.tasks.question_answering.answers import Gold
from scripts.training.data import Example
from scripts.training.evaluation import predict
from scripts.training.recipe import Recipe
from scripts.training.records import read_records

MIN_AGREEMENT = 0.999
"""Share of the answers in which the second writing of the rule is to agree."""
TIE = 1e-3
RUNNERS_UP = 10
BETWEEN = "\n\n"
"""Parts contexts that are made one."""


class JudgedModel(transformers.BertForQuestionAnswering):
    """The published graph as a model that the pipeline accepts; its torch weights are never used."""

    def __init__(self, version: OpenVersion) -> None:
        super().__init__(transformers.BertConfig(**TINY))  # type: ignore[no-untyped-call]
        self.rows = JudgedRows(version)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """One row; (1, tokens)."""
        types = None if token_type_ids is None else token_type_ids[0].tolist()
        logits: Any = torch.from_numpy(self.rows.read(input_ids[0].tolist(), types))  # (tokens, 2)
        return QuestionAnsweringModelOutput(start_logits=logits[None, :, 0], end_logits=logits[None, :, 1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where the second writing of the rule gives the same answers and every difference from the pipeline has a
    reason; else 1."""
    parser = measurement_parser("scripts.peers.answers", __doc__)
    parser.add_argument("data", nargs="+", metavar="DATA", help="SQuAD files")
    parser.add_argument("--model", type=Path, default=Path("models/qa/2"), help="folder of a published version")
    parser.add_argument("--window", type=int, default=0, help="tokens of a window (default: what the model reads at once)")
    parser.add_argument("--paragraphs", type=int, default=1, help="neighbouring contexts made one (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="questions of each file; 0: all")
    return run_measurement(parser, _judged, arguments)


def _judged(options: argparse.Namespace) -> dict[str, Any]:
    report = compare(options.model, options.data, options.limit, options.window, options.paragraphs)
    if report["reference"]["same_text"] < MIN_AGREEMENT or report["reasons"].get("unexplained"):
        report["complaints"] = ["answers differ without a reason"]
    return report


def compare(folder: Path, sources: Sequence[str], limit: int = 0, window: int = 0, paragraphs: int = 1) -> dict[str, Any]:
    """Answer every question all three ways.

    Args:
        limit: of each source the first so many questions; 0: all.
        window: tokens of a window; 0: what the model reads at once.
        paragraphs: so many neighbouring contexts of a source are made one.

    Returns:
        Shares, figures and differences. Texts of the data stay out: a difference is told by where it stands.
    """
    version = open_folder(folder)
    manifest = version.manifest
    examples = [example for source in sources for example in _joined(_examples(version, source), paragraphs)[: limit or None]]
    length = min(window or manifest.max_tokens, manifest.max_tokens)
    # the default stride; a third of a short window, since the pipeline takes no stride longer than that
    options = AnswerOptions(stride=min(AnswerOptions().stride, length // 3), max_window_tokens=length)
    task = QuestionAnswering(version.tokenizer())  # scores at temperature 1, as those of both others are
    predictions = predict(task, options, [example.item for example in examples], version.session, "Hooper")
    model = JudgedModel(version)
    pipe = _pipeline(version, model)
    others = OtherAnswers(pipe, model.rows, options, length)
    for index, example in enumerate(tqdm(examples, desc="others", disable=not sys.stderr.isatty())):
        model.rows.remember(predictions.encoded[index], predictions.outputs[index])
        others.add(example, predictions.answers[index].answers[0], len(predictions.encoded[index].rows))
    own = [answers.answers[0] for answers in predictions.answers]
    return {
        "model": version.name,
        "graph_sha256": manifest.files[manifest.graph.file].sha256,
        "transformers": transformers.__version__,
        "questions": len(examples),
        "window": length,
        "stride": options.stride,
        "paragraphs": paragraphs,
        "windows_per_question": round(float(np.mean([len(encoded.rows) for encoded in predictions.encoded])), 2),
        "figures": {name: _metrics(version, answers, examples) for name, answers in {"hooper": own, **others.answers}.items()},
        **others.figures(len(examples)),
    }


def _metrics(version: OpenVersion, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
    headline = version.training.evaluate([Answers([answer], 0.0) for answer in answers], examples, {})["headline"]
    return {name: headline[name] for name in ("exact_match", "f1")}


@dataclass
class OtherAnswers:
    """The answers of the second writing of the rule and of the pipeline, and where Hooper's differ from them."""

    pipe: Any
    rows: JudgedRows
    options: AnswerOptions
    length: int
    """Tokens of a window."""
    of_reference: list[Answer] = field(default_factory=list)
    of_pipeline: list[Answer] = field(default_factory=list)
    from_reference: list[dict[str, Any]] = field(default_factory=list)
    from_pipeline: list[dict[str, Any]] = field(default_factory=list)
    largest: float = 0.0
    """Difference of the scores of equal answers, of the second writing."""

    @property
    def answers(self) -> dict[str, list[Answer]]:
        return {"reference": self.of_reference, "pipeline": self.of_pipeline}

    def figures(self, num_questions: int) -> dict[str, Any]:
        return {
            "reference": {
                "same_text": round(1 - len(self.from_reference) / num_questions, 4),
                "largest_difference_of_scores": round(self.largest, 6),
                "differences": self.from_reference,
            },
            "same_text": round(1 - len(self.from_pipeline) / num_questions, 4),
            "reasons": dict(Counter(difference["reason"] for difference in self.from_pipeline)),
            "differences": self.from_pipeline,
        }

    def add(self, example: Example, own: Answer, num_windows: int) -> None:
        """Ask both; `rows` remembers what the model says to the example."""
        item, options = example.item, self.options
        reference = reference_answer(
            self.pipe.tokenizer, self.rows.read, item.question, item.context, self.length, options.stride,
            options.max_answer_tokens,
        )  # fmt: skip
        self.of_reference.append(reference)
        if reference.answer.lower() == own.answer.lower():
            self.largest = max(self.largest, abs(reference.score - own.score))
        else:
            self.from_reference.append({"where": example.where, "hooper": _span(own), "reference": _span(reference)})
        other = _answers(self.pipe, example, options, 1)[0]
        self.of_pipeline.append(other)
        if own.answer != other.answer:
            reason = difference_reason(item.context, own, _answers(self.pipe, example, options, RUNNERS_UP), num_windows)
            difference = {"where": example.where, "reason": reason, "hooper": _span(own), "pipeline": _span(other)}
            self.from_pipeline.append(difference)


def difference_reason(context: str, own: Answer, others: Sequence[Answer], num_windows: int) -> str:
    """Why the pipeline's best answer, the first of `others`, is another one."""
    best = others[0]
    if own.answer == best.answer:
        return "the pipeline answers so itself when it is asked for more answers: it adds up only so many spans"
    if own.answer.split() == best.answer.split():
        return "whitespace"
    rest = own.answer.removeprefix(best.answer)
    if own.start == best.start and not any(character.isalnum() for character in rest):
        return "a character of several code points is kept whole"
    totals: dict[str, float] = defaultdict(float)  # as if the pipeline widened spans to words before it adds them up
    for other in others:
        start, end = whole_words(context, other.start, other.end)
        totals[context[start:end].lower()] += other.score
    if max(totals, key=lambda text: totals[text]) == own.answer.lower():
        return "the words of the text, which the pipeline takes from the tokenizer"
    score = next((other.score for other in others if other.answer == own.answer), None)
    if score is not None and abs(score - best.score) < TIE:
        return "tie"
    if num_windows > 1:
        return "the pipeline counts a span in every window that holds it, however little context it has there"
    return "unexplained"


def _examples(version: OpenVersion, source: str) -> list[Example]:
    examples, _ = read_labelled(version.training, {}, Recipe(max_bad_share=1.0), {source: read_records(source)})
    return [example for example in examples if example.target]


def _joined(examples: Sequence[Example], count: int) -> list[Example]:
    """Questions about so many neighbouring contexts at once."""
    contexts = list(dict.fromkeys(example.item.context for example in examples))
    places = {}
    for start in range(0, len(contexts), count):
        group = contexts[start : start + count]
        for number, context in enumerate(group):
            places[context] = BETWEEN.join(group), sum(len(earlier) + len(BETWEEN) for earlier in group[:number])
    joined = []
    for example in examples:
        text, shift = places[example.item.context]
        golds = tuple(Gold(gold.text, gold.start + shift, gold.end + shift) for gold in example.target)
        joined.append(replace(example, item=QuestionItem(example.item.question, text), target=golds))
    return joined


def _pipeline(version: OpenVersion, model: JudgedModel) -> Any:
    tokenizer = hub_tokenizer(version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be gone in the next major version: that is why it is the reference
        return transformers.QuestionAnsweringPipeline(model=model, tokenizer=tokenizer, device="cpu")


def _answers(pipe: Any, example: Example, options: AnswerOptions, top_k: int) -> list[Answer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it hands torch tensors to numpy in a way that numpy will drop
        results = pipe(
            question=example.item.question,
            context=example.item.context,
            top_k=top_k,
            max_answer_len=options.max_answer_tokens,
            doc_stride=options.stride,
            max_seq_len=options.max_window_tokens,
        )
    results = results if isinstance(results, list) else [results]
    return [Answer(result["answer"], result["score"], result["start"], result["end"]) for result in results]


def _span(answer: Answer) -> str:
    return f"{answer.start}–{answer.end} ({answer.score:.4f})"


if __name__ == "__main__":
    sys.exit(main())
