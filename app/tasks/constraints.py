"""Answers that are what a schema, an expression or a list says: which tokens keep them so, by the library `llguidance`."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import numpy as np

from app.core.errors import InvalidInput, NotEnabled
from app.core.types import Array
from app.tasks.tokenizer import Tokenizer, encodable

Kind = Literal["schema", "regex", "choices", "tools"]
MAX_SCHEMA_CHARACTERS = 65_536
MAX_REGEX_CHARACTERS = 4096
MAX_CHOICES = 256
MAX_CHOICE_CHARACTERS = 1024
WHITESPACE = r"[ \n\t]{0,12}"
"""Between the parts of a document: a model that is in doubt would write blanks for ever."""
KEPT = 64
"""Grammars that are kept for the next who asks for the same."""
LIMITS = {
    "initial_lexer_fuel": 100_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 100_000,
}
"""Of llguidance, by its own names: an expression that needs more is refused, at its beginning or where it comes to that."""
IN_WORDS = {"NoExtensionBias": "no text obeys it, or none that ends"}
"""What the library says by the name of a state alone."""
NOT_IN_GRAMMAR = "doesn't satisfy the grammar"
STUCK = "the model has no token with which the text could go on"
PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
"""Where the library finds something wrong, in what was made here of what was sent."""
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
"""The decoder of a vocabulary of bytes, by which the library knows it."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""What it writes for a byte of a character that it has no token of."""
BLANK = "<0x20>"
"""Never written where there is the mark; unlike that, it is not left out at the beginning of a text."""
NO_FORCING = '%llguidance {"no_forcing": true}'
"""Where there is but one way to go on, the library tokenizes it, and takes a special token that is only spelled for the token
itself, which would end the text."""
MARK = "▁"
"""What sentencepiece writes for a blank."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What an answer has to be."""

    kind: Kind
    value: str
    """An expression; of a schema, or a list of choices, its JSON; of calls of tools, a grammar."""

    @property
    def field(self) -> str:
        """How a request calls it."""
        return self.kind

    @classmethod
    def of_schema(cls, schema: Any) -> OutputFormat:
        """
        Raises:
            InvalidInput: it is too large.
        """
        return cls._within_limits("schema", json.dumps(schema, ensure_ascii=False, separators=(",", ":")), "has")

    @classmethod
    def of_calls(cls, grammar: str) -> OutputFormat:
        """
        Raises:
            InvalidInput: it is too large.
        """
        return cls._within_limits("tools", grammar, "schemas have")

    @classmethod
    def _within_limits(cls, kind: Kind, value: str, has: str) -> OutputFormat:
        if not encodable(value):
            raise InvalidInput("contains a lone surrogate, which is not valid Unicode", kind)
        if len(value) > MAX_SCHEMA_CHARACTERS:
            raise InvalidInput(f"{has} {len(value)} characters; at most {MAX_SCHEMA_CHARACTERS} are read", kind)
        return cls(kind, value)

    @classmethod
    def of_choices(cls, choices: Sequence[str]) -> OutputFormat:
        return cls("choices", json.dumps(list(choices), ensure_ascii=False))

    def grammar(self, has_mark: bool) -> str:
        """In the language of llguidance.

        Args:
            has_mark: whether the first token of a text begins with a blank that is none of the text.
        """
        if self.kind == "schema":
            # no document begins with a blank, so that it may be there or not
            return f'start: {"LEAD? " if has_mark else ""}body\nLEAD: " "\nbody: {json_rule(json.loads(self.value))}'
        if self.kind == "tools":
            return self.value
        lead = "LEAD " if has_mark else ""
        if self.kind == "choices":
            body = " | ".join(json.dumps(choice) for choice in json.loads(self.value))
            return f'start: {lead}body\nLEAD: " "\nbody: {body}'
        return f'start: {lead}BODY\nLEAD: " "\nBODY: /{_llguidance().regex_to_lark(self.value, "dw")}/'


def json_rule(schema: Any) -> str:
    """What documents that obey a schema are in a grammar."""
    if isinstance(schema, dict):
        schema = {**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}}
    return f"%json {json.dumps(schema)}"


class GrammarCompiler:
    """Makes grammars of a model's tokens. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int], drops_blank: bool = True) -> None:
        """
        Args:
            vocab_size: of the logits.
            drops_blank: whether a text is decoded alone, so that a blank which the first token begins with is none of it.
        """
        self._tokenizer, self._vocab_size, self._eos = tokenizer, vocab_size, list(eos_token_ids)
        self._special_tokens = tuple(tokenizer.special_tokens())
        self._lock = Lock()
        self._tokens: Any = None
        self._kept: OrderedDict[OutputFormat, Grammar] = OrderedDict()
        mark = tokenizer.token_id(MARK)
        self._has_mark = drops_blank and mark is not None and tokenizer.decode([mark]) == ""

    def compiled(self, form: OutputFormat) -> Grammar:
        """The grammar of a format. Takes up to a few tenths of a second: not for the event loop.

        Raises:
            InvalidInput: it is none, or more than can be followed.
            NotEnabled: the library is not installed.
        """
        with self._lock:
            grammar = self._kept.pop(form, None) or self._new(form)
            self._kept[form] = grammar
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return grammar

    def _new(self, form: OutputFormat) -> Grammar:
        library = _llguidance()
        if self._tokens is None:
            self._tokens = self._token_bytes()
        limits = library.LLParserLimits(verbose_errors=False, **LIMITS)
        grammar = form.grammar(self._has_mark)
        if any(token in grammar for token in self._special_tokens):
            grammar = f"{NO_FORCING}\n{grammar}"
        matcher = library.LLMatcher(self._tokens, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first one takes longest, and what is learned by it is kept
        if matcher.is_error():
            raise InvalidInput(_reason(matcher.get_error()), form.field)
        return Grammar(matcher, form, self._vocab_size)

    def _token_bytes(self) -> Any:
        """The tokens as llguidance takes them.

        Raises:
            InvalidInput: what a token is of a text is not known.
        """
        library = _llguidance()
        if not self._eos:
            raise InvalidInput("the model has no token that ends a text, so that none can be held to a form")
        definition = json.loads(self._tokenizer.definition)
        decoder = json.dumps(definition.get("decoder"), ensure_ascii=False)
        is_byte_level = '"ByteLevel"' in decoder
        if is_byte_level:  # what stands around it, as in tokenizers that transformers makes of GGUF files, does nothing
            definition["decoder"] = BYTE_LEVEL
        if is_byte_level or MARK not in decoder:
            try:
                return library.LLTokenizer(json.dumps(definition), n_vocab=self._vocab_size, eos_token=self._eos)
            except ValueError as error:
                raise InvalidInput(
                    "the model's tokenizer does not say what text each token is, so that none can be held to a form"
                ) from error
        tokens = MarkedTokens(self._tokenizer, definition, self._vocab_size, self._eos[0])
        return library.LLTokenizer(library.TokenizerWrapper(tokens), n_vocab=self._vocab_size, eos_token=self._eos)


class MarkedTokens:
    """What `llguidance.TokenizerWrapper` wants of a vocabulary of texts with a mark for blanks, as sentencepiece's are. How
    llguidance itself reads these is for texts that begin with a blank."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, definition: Mapping[str, Any], vocab_size: int, eos_token_id: int) -> None:
        self.eos_token_id = eos_token_id
        special = {token["id"] for token in definition.get("added_tokens", ()) if token["special"]}
        special |= {number for number in (tokenizer.unknown_id(), eos_token_id) if number is not None}
        texts = [tokenizer.token(number) for number in range(vocab_size)]
        special |= {number for number, text in enumerate(texts) if not text}
        self.special_token_ids = sorted(special)
        # different ones of each special token too, else one is taken for another where it may stand
        self.tokens = [
            f"[{number}]".encode() if number in special else b"" if text == BLANK else _bytes_of(text)
            for number, text in enumerate(texts)
        ]
        self._numbers = {token: number for number, token in enumerate(self.tokens) if token and number not in special}
        self._longest = max(map(len, self._numbers))

    def __call__(self, text: str | bytes) -> list[int]:
        """Tokens of a text, each as long as there is one."""
        left = text if isinstance(text, bytes) else text.encode()
        found = []
        while left:
            size = next((size for size in range(self._longest, 0, -1) if left[:size] in self._numbers), 0)
            if not size:
                break
            found.append(self._numbers[left[:size]])
            left = left[size:]
        return found


def _bytes_of(text: str) -> bytes:
    byte = BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace(MARK, " ").encode()


class Grammar:
    """Satisfies `app.core.sequences.Constraint`."""

    def __init__(self, matcher: Any, form: OutputFormat, vocab_size: int) -> None:
        self._matcher, self._form, self._vocab_size = matcher, form, vocab_size

    def start(self) -> GrammarFilter:
        return GrammarFilter(self._matcher.deep_copy(), self._form, self._vocab_size)


class GrammarFilter:
    """Satisfies `app.core.sequences.TokenFilter`."""

    def __init__(self, matcher: Any, form: OutputFormat, vocab_size: int) -> None:
        self._matcher, self._form, self._vocab_size = matcher, form, vocab_size

    def allowed(self) -> Array:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise InvalidInput(_reason(self._matcher.get_error()), self._form.field)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(bool)
        if not allowed.any():
            raise InvalidInput(STUCK, self._form.field)
        return allowed

    def advance(self, token_id: int) -> None:
        if not self._matcher.consume_token(token_id):
            error = self._matcher.get_error()
            # else what must follow is no token, and another was offered for it
            is_beyond_limits = bool(error) and NOT_IN_GRAMMAR not in error
            raise InvalidInput(_reason(error) if is_beyond_limits else STUCK, self._form.field)


def _reason(error: str) -> str:
    """The library's message in one sentence; of an expression it draws the place below it."""
    lines = [line.strip() for line in error.splitlines()]
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), PLACE.sub("", lines[0]))
    return f"cannot be followed: {IN_WORDS.get(said, said)}"


def _llguidance() -> Any:
    """
    Raises:
        NotEnabled: it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise NotEnabled("answers are held to a form by the library llguidance, which is not installed here") from error
    return llguidance
