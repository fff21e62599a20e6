"""Question answering beside two independent ones: the same rule written a second time, and the last `question-answering`
pipeline of transformers, 4.57.6.

All get the same graph: the pipeline's model is the published ONNX file behind transformers' own classes. What differs is all
that Hooper wrote itself: windows, offsets, the choice of spans. The second writing of the rule is to agree (99.9 %); of the
pipeline, which reads windows and words otherwise, every different answer is put down to a reason or named.

    python -m scripts.compare_with_pipeline --model models/qa/1 data.jsonl.gz --output docs/measurements/qa_pipeline.json
    python -m scripts.compare_with_pipeline --model models/qa/1 data.jsonl.gz --window 128 --output …
    python -m scripts.compare_with_pipeline --model models/qa/1 data.jsonl.gz --paragraphs 5 --output …
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from app.core.errors import HooperError
from app.core.manifest import Manifest, read_manifest, verify_files
from app.core.types import Row, RowOutput
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from app.tasks.base import Encoded
from app.tasks.question_answering.task import AnswerOptions, Answers, QuestionAnswering, QuestionItem
from app.tasks.tokenizer import Tokenizer
from scripts.export.reference_answers import reference_answer, whole_words
from scripts.tasks.question_answering.answers import Gold, parse
from scripts.training.data import Broken, Example
from scripts.training.evaluation import predict
from scripts.training.metrics import exact_match, f1
from scripts.training.records import read_records

WANTED = 0.999
"""Share of the answers in which the second writing of the rule is to agree."""
TIE = 1e-3
RUNNERS_UP = 10
BETWEEN = "\n\n"
"""Parts contexts that are made one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One question that was answered otherwise."""

    where: str
    reason: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Setting:
    """How long a window is, and how much two of them share."""

    window: int
    stride: int

    @property
    def options(self) -> AnswerOptions:
        return AnswerOptions(stride=self.stride, max_window_tokens=self.window)


class PublishedModel(transformers.BertForQuestionAnswering):
    """The published graph as a model that the pipeline accepts; its torch weights are never used."""

    def __init__(self, session: EncoderEngine) -> None:
        tiny = transformers.BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
        super().__init__(tiny)  # type: ignore[no-untyped-call]
        self._session = session
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], np.ndarray] = {}

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """One row; (1, tokens)."""
        types = [0] * input_ids.shape[1] if token_type_ids is None else token_type_ids[0].tolist()
        logits: Any = torch.from_numpy(self.read(input_ids[0].tolist(), types))  # (tokens, 2)
        return QuestionAnsweringModelOutput(start_logits=logits[None, :, 0], end_logits=logits[None, :, 1])

    def read(self, input_ids: Sequence[int], token_type_ids: Sequence[int]) -> np.ndarray:
        """Logits of a row: (tokens, 2)."""
        key = tuple(input_ids), tuple(token_type_ids)
        if key not in self._known:
            (output,) = self._session.run_rows([Row(input_ids, token_type_ids)])
            self._known[key] = np.array(output["logits"])
        return self._known[key]

    def remember(self, encoded: Encoded, outputs: Sequence[RowOutput]) -> None:
        """Keep what is known of one question's rows, and of no other's: that others ask for the same rows is not assumed, but
        where they do, nothing is computed twice."""
        pairs = zip(encoded.rows, outputs, strict=True)
        self._known = {(tuple(row.input_ids), tuple(row.token_type_ids)): np.array(output["logits"]) for row, output in pairs}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where the second writing of the rule gives the same answers and every difference from the pipeline has a
    reason; else 1."""
    options = _parser().parse_args(arguments)
    try:
        report = compare(options.model, options.data, options.limit, options.window, options.paragraphs)
    except HooperError as error:
        print(f"compare_with_pipeline: {error.detail}", file=sys.stderr)
        return 2
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")
    unexplained = report["reasons"].get("unexplained", 0)
    return 0 if report["reference"]["same_text"] >= WANTED and not unexplained else 1


def compare(
    folder: Path, sources: Sequence[str], limit: int = 0, window: int | None = None, paragraphs: int = 1
) -> dict[str, Any]:
    """Answer every question all three ways.

    Args:
        folder: a published version of a question answering model.
        sources: SQuAD files.
        limit: of each source the first so many questions; 0: all.
        window: tokens of a window; None: what the model reads at once.
        paragraphs: so many neighbouring contexts of a source are made one.

    Returns:
        Shares, figures and differences. Texts of the data stay out: a difference is told by where it stands.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    examples = [one for source in sources for one in _joined(_examples(source), paragraphs)[: limit or None]]
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    setting = _setting(manifest, window)
    # scores at temperature 1, as those of both others are
    task = QuestionAnswering(tokenizer)
    predictions = predict(task, setting.options, [one.item for one in examples], session, "Hooper")
    model = PublishedModel(session)
    pipe = _pipeline(folder, manifest, model)
    differences, otherwise, theirs, references, apart = [], [], [], [], 0.0
    for index, one in enumerate(tqdm(examples, desc="others", disable=not sys.stderr.isatty())):
        ours = predictions.answers[index].answers[0]
        model.remember(predictions.encoded[index], predictions.outputs[index])
        reference = reference_answer(
            pipe.tokenizer,
            model.read,
            one.item.question,
            one.item.context,
            setting.window,
            setting.stride,
            setting.options.max_answer_tokens,
        )
        references.append(reference.text)
        own = f"{ours.start}–{ours.end} ({ours.score:.4f})"
        if reference.text.lower() == ours.answer.lower():
            apart = max(apart, abs(reference.score - ours.score))
        else:
            span = f"{reference.start}–{reference.end} ({reference.score:.4f})"
            otherwise.append({"where": one.where, "hooper": own, "reference": span})
        found = _ask(pipe, one, setting, 1)[0]
        theirs.append(found["answer"])
        if ours.answer != found["answer"]:
            num_windows = len(predictions.encoded[index].rows)
            reason = _reason(one.item.context, predictions.answers[index], _ask(pipe, one, setting, RUNNERS_UP), num_windows)
            span = f"{found['start']}–{found['end']} ({found['score']:.4f})"
            differences.append(Difference(one.where, reason, own, span))
    answers = [answers.answers[0].answer for answers in predictions.answers]
    return {
        "model": f"{manifest.name}/{manifest.version}",
        "graph_sha256": manifest.files[manifest.graph.file].sha256,
        "transformers": transformers.__version__,
        "questions": len(examples),
        "window": setting.window,
        "stride": setting.stride,
        "paragraphs": paragraphs,
        "windows_per_question": round(float(np.mean([len(one.rows) for one in predictions.encoded])), 2),
        "reference": {
            "same_text": round(1 - len(otherwise) / len(examples), 4),
            "largest_difference_of_scores": round(apart, 6),
            "differences": otherwise,
        },
        "same_text": round(1 - len(differences) / len(examples), 4),
        "reasons": dict(Counter(one.reason for one in differences)),
        "figures": {
            "hooper": _figures(answers, examples),
            "reference": _figures(references, examples),
            "pipeline": _figures(theirs, examples),
        },
        "differences": [
            {"where": one.where, "reason": one.reason, "hooper": one.ours, "pipeline": one.theirs} for one in differences
        ],
    }


def _examples(source: str) -> list[Example]:
    parsed = [parse(record, source) for record in read_records(source)]
    return [one for one in parsed if not isinstance(one, Broken) and one.target]


def _joined(examples: Sequence[Example], count: int) -> list[Example]:
    """Questions about so many neighbouring contexts at once."""
    contexts = list(dict.fromkeys(one.item.context for one in examples))
    groups = [contexts[start : start + count] for start in range(0, len(contexts), count)]
    places = {}
    for group in groups:
        for number, context in enumerate(group):
            places[context] = BETWEEN.join(group), sum(len(one) + len(BETWEEN) for one in group[:number])
    made = []
    for one in examples:
        text, shift = places[one.item.context]
        golds = tuple(Gold(gold.text, gold.start + shift, gold.end + shift) for gold in one.target)
        made.append(replace(one, item=QuestionItem(one.item.question, text), target=golds))
    return made


def _pipeline(folder: Path, manifest: Manifest, model: PublishedModel) -> Any:
    transformers.logging.set_verbosity(logging.CRITICAL)  # it would name all classes that it knows better
    tokens = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / manifest.tokenizer), **tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be gone in the next major version: that is why it is the reference
        return transformers.pipeline("question-answering", model=model, tokenizer=tokenizer, device="cpu")


def _ask(pipe: Any, one: Example, setting: Setting, top_k: int) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it hands torch tensors to numpy in a way that numpy will drop
        found = pipe(
            question=one.item.question,
            context=one.item.context,
            top_k=top_k,
            max_answer_len=AnswerOptions().max_answer_tokens,
            doc_stride=setting.stride,
            max_seq_len=setting.window,
        )
    return found if isinstance(found, list) else [found]


def _setting(manifest: Manifest, window: int | None) -> Setting:
    """The default stride; a third of a short window, since the pipeline takes no stride longer than that."""
    length = min(window or manifest.max_tokens, manifest.max_tokens)
    return Setting(length, min(AnswerOptions().stride, length // 3))


def _reason(context: str, ours: Answers, theirs: Sequence[dict[str, Any]], num_windows: int) -> str:
    """Why the best answers differ."""
    own = ours.answers[0]
    best = theirs[0]
    if own.answer == best["answer"]:
        return "the pipeline answers so itself when it is asked for more answers: it adds up only so many spans"
    if own.answer.split() == best["answer"].split():
        return "whitespace"
    rest = own.answer.removeprefix(best["answer"])
    if own.start == best["start"] and not any(character.isalnum() for character in rest):
        return "a character of several code points is kept whole"
    if _likeliest_words(context, theirs) == own.answer.lower():
        return "the words of the text, which the pipeline takes from the tokenizer"
    score = next((one["score"] for one in theirs if one["answer"] == own.answer), None)
    if score is not None and abs(score - best["score"]) < TIE:
        return "tie"
    if num_windows > 1:
        return "the pipeline counts a span in every window that holds it, however little context it has there"
    return "unexplained"


def _likeliest_words(context: str, theirs: Sequence[dict[str, Any]]) -> str:
    """Which answer would be best if the pipeline widened spans to the words of the text before it adds them up."""
    totals: dict[str, float] = defaultdict(float)
    for one in theirs:
        start, end = whole_words(context, one["start"], one["end"])
        totals[context[start:end].lower()] += one["score"]
    return max(totals, key=lambda text: totals[text])


def _figures(answers: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    truths = [[gold.text for gold in one.target] for one in examples]
    pairs = list(zip(answers, truths, strict=True))
    return {
        "exact_match": round(100 * float(np.mean([exact_match(*one) for one in pairs])), 2),
        "f1": round(100 * float(np.mean([f1(*one) for one in pairs])), 2),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare_with_pipeline", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="+", metavar="DATA", help="SQuAD files")
    parser.add_argument("--model", type=Path, default=Path("models/qa/1"), help="folder of a published version")
    parser.add_argument("--window", type=int, help="tokens of a window (default: what the model reads at once)")
    parser.add_argument(
        "--paragraphs", type=int, default=1, help="so many neighbouring contexts are made one (default: %(default)s)"
    )
    parser.add_argument("--limit", type=int, default=0, help="questions of each file; 0: all")
    parser.add_argument("--output", type=Path, help="file for the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
