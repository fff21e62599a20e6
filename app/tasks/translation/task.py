"""Translation: sentence by sentence, with what stands between them as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooLarge
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput, Truncation
from app.tasks.base import Detokenizer, Encoded, refuse_text
from app.tasks.detokenizer import SilentDetokenizer
from app.tasks.generation import GeneratedText, GenerationOptions, SourceText
from app.tasks.sentences import LANGUAGE, sentences
from app.tasks.text_generator import GenerativeTask, SourceReading, TextGenerator, golden
from app.tasks.translation.languages import base_of, same_language

WITHOUT_BLANKS = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "yue"})
"""Languages that put no blank between sentences."""
SourcePlace = Literal["none", "first", "last"]
TargetPlace = Literal["none", "first_written", "start", "source"]


@dataclass(frozen=True, slots=True)
class TranslationOptions(GenerationOptions):
    source: str | None = None
    """Code of the language that is read, and of the one that is written; None: the model's only one, or its usual."""
    target: str | None = None
    truncation: Truncation = "window"


@dataclass(frozen=True, slots=True)
class KeptText(SourceReading):
    """Of a text without a letter or a number, which is its own translation: a model would make words of it."""

    text: str


class Translation(GenerativeTask):
    """Satisfies `Task` and `Generative`: one row for each sentence."""

    def __init__(
        self,
        generator: TextGenerator,
        sources: Sequence[str] = (),
        targets: Sequence[str] = (),
        source: str = "",
        target: str = "",
        language_tokens: Mapping[str, str] = {},
        source_place: SourcePlace = "none",
        target_place: TargetPlace = "none",
        prefixes: Mapping[str, str] = {},
        by_sentence: bool = True,
    ) -> None:
        """
        Args:
            sources, targets: codes of the languages that it reads and writes, as requests name them.
            source, target: those of a request that names none; empty: the only one, else a request must.
            language_tokens: code to the token of the vocabulary that stands for a language, as `__de__` or `>>deu<<`.
            source_place: where the source's token stands among the row's: before all others, behind them (NLLB's and mBART's
                older form), or nowhere. The tokenizer itself must not put it there.
            target_place: where the target's stands: it is the first token written (M2M100, NLLB, mBART-50), what the decoder
                starts with (mBART), the first of the row (Marian), or nowhere.
            prefixes: `SOURCE TARGET`, two codes, to the text before each sentence, as T5's `translate English to German: `.
            by_sentence: whether the model was trained on sentences, so that a text is translated one by one; else as many
                sentences are read together as the model can.
        """
        super().__init__(generator)
        self.sources, self.targets = tuple(sources) or _only(source), tuple(targets) or _only(target)
        self._source = source or _single(self.sources)
        self._target = target or _single(self.targets)
        self._source_place, self._target_place = source_place, target_place
        self._prefixes, self._by_sentence = dict(prefixes), by_sentence
        self._source_ids = self._token_ids(generator.tokenizer, language_tokens, self.sources if source_place != "none" else ())
        reader = generator.tokenizer if target_place == "source" else generator.target
        self._target_ids = self._token_ids(reader, language_tokens, self.targets if target_place != "none" else ())

    def encode(self, items: Sequence[SourceText], options: TranslationOptions) -> list[Encoded | HooperError]:
        try:
            source, target = self.languages(options)
        except InvalidInput as error:
            return [error] * len(items)
        return [refuse_text(item.text, "text") or self._item(item.text, source, target, options) for item in items]

    def sampling(self, options: TranslationOptions) -> SamplingParams:
        _, target = self.languages(options)
        match self._target_place:
            case "first_written":
                return self.generator.sampling(options, forced_bos_token_id=self._target_ids[target])
            case "start":
                return self.generator.sampling(options, decoder_input_ids=(self._target_ids[target],))
        return self.generator.sampling(options)

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: TranslationOptions) -> GeneratedText:
        answer, reading = super().decode(encoded, outputs, options), encoded.state
        if not isinstance(reading, KeptText):
            return answer
        others = None if answer.alternatives is None else (reading.text,) * len(answer.alternatives)
        return replace(answer, text=reading.text, finish_reason="stop", alternatives=others, hypotheses=())

    def detokenizers(self, encoded: Encoded, options: TranslationOptions) -> list[Detokenizer]:
        return [SilentDetokenizer()] if isinstance(encoded.state, KeptText) else super().detokenizers(encoded, options)

    def golden_options(self) -> TranslationOptions:
        source, target = self._source or self.sources[:1], self._target or self.targets[-1:]
        return golden(TranslationOptions, source="".join(source) or None, target="".join(target) or None)

    def languages(self, options: TranslationOptions) -> tuple[str, str]:
        """Codes of the model's own for what is read and written; empty where it does not say which it is for.

        Raises:
            InvalidInput: it is for others, or the request must say which.
        """
        source = _resolved("source", options.source, self.sources, self._source)
        target = _resolved("target", options.target, self.targets, self._target)
        if self._prefixes and f"{source} {target}" not in self._prefixes:
            pairs = ", ".join(" to ".join(pair.split()) for pair in self._prefixes)
            raise InvalidInput(f"the model does not translate from {source} to {target}, only from {pairs}", "target")
        return source, target

    def pairs(self) -> dict[str, list[str]]:
        """Languages that it reads to those that it writes of each."""
        if self._prefixes:
            pairs = [pair.split() for pair in self._prefixes]
            return {source: [other for first, other in pairs if first == source] for source, _ in pairs}
        return {source: [target for target in self.targets if target != source] for source in self.sources}

    def _token_ids(self, tokenizer: Any, tokens: Mapping[str, str], codes: Sequence[str]) -> dict[str, int]:
        ids = {}
        for code in codes:
            number = tokenizer.token_id(tokens.get(code, ""))
            if number is None or number == tokenizer.unknown_id():
                raise InvalidArtefact(f"task_options.language_tokens: the vocabulary has no token for {code!r}")
            ids[code] = number
        return ids

    def _item(self, text: str, source: str, target: str, options: TranslationOptions) -> Encoded | HooperError:
        before = [self._source_ids[source]] if self._source_place == "first" else []
        before += [self._target_ids[target]] if self._target_place == "source" else []
        behind = [self._source_ids[source]] if self._source_place == "last" else []
        limit = self.max_source_tokens - len(before) - len(behind)
        spans = sentences(text, base_of(source) or LANGUAGE)
        if self._by_sentence:  # of `...` and of signs a model makes words
            spans = [(start, end) for start, end in spans if any(map(str.isalnum, text[start:end]))] or spans
        else:
            spans = self._together(text, spans, limit)
        prefix = self._prefixes.get(f"{source} {target}", "")
        pieces = self.pieces.encode([prefix + text[start:end] for start, end in spans])
        longest = max(map(len, pieces))
        if longest > limit and options.truncation == "error":
            return TooLarge(
                f"a sentence of the text has {longest} tokens; the model reads at most {limit}", ("window", "truncate")
            )
        rows: list[Row] = []
        separators = [text[: spans[0][0]]]
        for piece, (_, end), following in zip(pieces, spans, [*(start for start, _ in spans[1:]), None], strict=True):
            num_read = limit if options.truncation == "truncate" else len(piece)
            for start in range(0, min(num_read, len(piece)) or 1, limit):
                rows.append(self._row(before, piece.ids[start : start + limit], behind))
                separators.append(" ")
            separators[-1] = text[end:] if following is None else _between(text[end:following], target)
        encoded = self.encoded(rows, separators, longest > limit and options.truncation == "truncate", options)
        return encoded if any(map(str.isalnum, text)) else replace(encoded, state=KeptText(separators, text))

    def _row(self, before: Sequence[int], ids: Sequence[int], behind: Sequence[int]) -> Row:
        input_ids = [*before, *self.pieces.single.row(ids).input_ids, *behind]
        return Row(input_ids, [0] * len(input_ids))

    def _together(self, text: str, spans: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
        """Runs of sentences that the model reads at once; a blank line ends one."""
        runs: list[tuple[int, int]] = []
        num_tokens = 0
        for (start, end), tokens in zip(spans, self.pieces.encode([text[a:b] for a, b in spans]), strict=True):
            fits = runs and num_tokens + len(tokens) <= limit and "\n\n" not in text[runs[-1][1] : start]
            if fits:
                runs[-1], num_tokens = (runs[-1][0], end), num_tokens + len(tokens)
            else:
                runs.append((start, end))
                num_tokens = len(tokens)
        return runs


def _only(code: str) -> tuple[str, ...]:
    return (code,) if code else ()


def _single(codes: Sequence[str]) -> str:
    return codes[0] if len(codes) == 1 else ""


def _resolved(field: str, code: str | None, codes: Sequence[str], usual: str) -> str:
    """The model's own code of a language."""
    known = ", ".join(codes)
    if code is None:
        if not usual and codes:
            raise InvalidInput(f"must be named: the model has several, {known}", field)
        return usual
    own = same_language(code, codes)
    if own is None:
        raise InvalidInput(f"should be one of {known}" if codes else "is not known of this model; leave it out", field)
    return own


def _between(blanks: str, target: str) -> str:
    """What stands between two sentences in the target language."""
    if "\n" in blanks or "\r" in blanks:
        return blanks
    if base_of(target) in WITHOUT_BLANKS:
        return blanks if blanks not in ("", " ") else ""
    return blanks or " "
