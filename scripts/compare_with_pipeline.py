"""Question answering beside an independent reference: the last `question-answering` pipeline of transformers, 4.57.6.

Both get the same graph: the pipeline's model is the published ONNX file behind transformers' own classes. What differs is all
that Hooper wrote itself: windows, offsets, the choice of spans. Every different answer is put down to a reason or named.

    python -m scripts.compare_with_pipeline --model models/qa/1 data.jsonl.gz --output docs/measurements/qa_pipeline.json
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from app.core.errors import HooperError
from app.core.manifest import Manifest, read_manifest, verify_files
from app.core.types import Row
from app.runtime.providers import choose_provider
from app.runtime.session import OnnxSession
from app.tasks.question_answering import AnswerOptions, Answers, QuestionAnswering
from app.tasks.tokenizer import Tokenizer
from scripts.offline.evaluate import predict
from scripts.offline.load import Broken, Example
from scripts.offline.records import read_records
from scripts.offline.squad import exact_match, f1
from scripts.offline.tasks.question_answering import parse

WANTED = 0.99
TIE = 1e-3
RUNNERS_UP = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """One question that was answered otherwise."""

    where: str
    reason: str
    ours: str
    theirs: str


class PublishedModel(transformers.BertForQuestionAnswering):
    """The published graph as a model that the pipeline accepts; its torch weights are never used."""

    def __init__(self, session: OnnxSession) -> None:
        tiny = transformers.BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
        super().__init__(tiny)  # type: ignore[no-untyped-call]
        self._session = session

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """One row; (1, tokens)."""
        types = [0] * input_ids.shape[1] if token_type_ids is None else token_type_ids[0].tolist()
        (output,) = self._session.run_rows([Row(input_ids[0].tolist(), types)])
        logits: Any = torch.from_numpy(np.array(output["logits"]))  # (tokens, 2)
        return QuestionAnsweringModelOutput(start_logits=logits[None, :, 0], end_logits=logits[None, :, 1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: 0 where at least 99 % of the answers are the same and every difference has a reason; else 1."""
    options = _parser().parse_args(arguments)
    try:
        report = compare(options.model, options.data, options.limit)
    except HooperError as error:
        print(f"compare_with_pipeline: {error.detail}", file=sys.stderr)
        return 2
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")
    unexplained = report["reasons"].get("unexplained", 0)
    return 0 if report["same_text"] >= WANTED and not unexplained else 1


def compare(folder: Path, sources: Sequence[str], limit: int = 0) -> dict[str, Any]:
    """Answer every question both ways.

    Args:
        folder: a published version of a question answering model.
        sources: SQuAD files.
        limit: of each source the first so many questions; 0: all.

    Returns:
        Shares, figures and differences. Texts of the data stay out: a difference is told by where it stands.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    session = OnnxSession(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    examples = [one for source in sources for one in _examples(source)[: limit or None]]
    tokenizer = Tokenizer.from_file(folder / manifest.tokenizer, manifest.max_tokens)
    # scores at temperature 1, as the pipeline's are
    task = QuestionAnswering(tokenizer)
    asked = AnswerOptions(stride=_stride(manifest))
    predictions = predict(task, asked, [one.item for one in examples], session, "Hooper")
    pipe = _pipeline(folder, manifest, session)
    differences, theirs = [], []
    for index, one in enumerate(tqdm(examples, desc="pipeline", disable=not sys.stderr.isatty())):
        found = _ask(pipe, one, manifest, 1)[0]
        theirs.append(found["answer"])
        ours = predictions.answers[index].answers[0]
        if ours.answer != found["answer"]:
            num_windows = len(predictions.encoded[index].rows)
            reason = _reason(predictions.answers[index], _ask(pipe, one, manifest, RUNNERS_UP), num_windows)
            span = f"{found['start']}–{found['end']} ({found['score']:.4f})"
            differences.append(Difference(one.where, reason, f"{ours.start}–{ours.end} ({ours.score:.4f})", span))
    own = [answers.answers[0].answer for answers in predictions.answers]
    return {
        "model": f"{manifest.name}/{manifest.version}",
        "graph_sha256": manifest.files[manifest.graph.file].sha256,
        "transformers": transformers.__version__,
        "questions": len(examples),
        "same_text": round(1 - len(differences) / len(examples), 4),
        "reasons": dict(Counter(one.reason for one in differences)),
        "figures": {"hooper": _figures(own, examples), "pipeline": _figures(theirs, examples)},
        "differences": [
            {"where": one.where, "reason": one.reason, "hooper": one.ours, "pipeline": one.theirs} for one in differences
        ],
    }


def _examples(source: str) -> list[Example]:
    parsed = [parse(record, source) for record in read_records(source)]
    return [one for one in parsed if not isinstance(one, Broken) and one.target]


def _pipeline(folder: Path, manifest: Manifest, session: OnnxSession) -> Any:
    transformers.logging.set_verbosity(logging.CRITICAL)  # it would name all classes that it knows better
    tokens = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / manifest.tokenizer), **tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will be gone in the next major version: that is why it is the reference
        return transformers.pipeline("question-answering", model=PublishedModel(session), tokenizer=tokenizer, device="cpu")


def _ask(pipe: Any, one: Example, manifest: Manifest, top_k: int) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it hands torch tensors to numpy in a way that numpy will drop
        found = pipe(
            question=one.item.question,
            context=one.item.context,
            top_k=top_k,
            max_answer_len=AnswerOptions().max_answer_tokens,
            doc_stride=_stride(manifest),
            max_seq_len=manifest.max_tokens,
        )
    return found if isinstance(found, list) else [found]


def _stride(manifest: Manifest) -> int:
    """The default; a third of a short window, since the pipeline takes no stride longer than that."""
    return min(AnswerOptions().stride, manifest.max_tokens // 3)


def _reason(ours: Answers, theirs: Sequence[dict[str, Any]], num_windows: int) -> str:
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
    score = next((one["score"] for one in theirs if one["answer"] == own.answer), None)
    if score is not None and abs(score - best["score"]) < TIE:
        return "tie"
    if num_windows > 1:
        return "the pipeline adds up the scores of overlapping windows"
    return "unexplained"


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
    parser.add_argument("--limit", type=int, default=0, help="questions of each file; 0: all")
    parser.add_argument("--output", type=Path, help="file for the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
