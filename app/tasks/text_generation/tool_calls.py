"""How a model writes calls of functions: found out from its chat template, enforced by a grammar, and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from app.core.errors import InvalidInput
from app.tasks.chat_template import ChatTemplate
from app.tasks.constraints import json_rule
from app.tasks.detokenizer import StopFinder

MAX_CALLS = 16
"""Calls in one answer, where they are forced: a model in doubt would write them for ever."""
ID = re.compile("HooperId[12]")
"""In a form the place of an id; Mistral's templates take none of another length."""
FIRST, SECOND = "hooper_first", "hooper_second"
ARGUMENTS = r"""\{\s*"hooper"\s*:\s*1\s*\}"""
TOOLS: Sequence[Mapping[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object", "properties": {}}}}
    for name in (FIRST, SECOND)
]
QUESTION: Mapping[str, Any] = {"role": "user", "content": "Good morning!"}
NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
"""Of a function of which nobody says what it takes: OpenAI's own meaning."""
_DECODER = json.JSONDecoder()


class WrittenCall(NamedTuple):
    """A function that a model calls."""

    name: str
    arguments: str
    """As JSON; of a text that was cut, its beginning."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """The texts around names and arguments, special tokens included."""

    before: str
    """What the first call begins with."""
    middle: str
    """Between a name and its arguments."""
    between: str | None
    """Between the arguments of a call and the name of the next; None: there is never another."""
    after: str
    """Behind the arguments of the last one."""
    is_certain: bool = True
    """Whether the template says so; else it is what most models write."""

    @property
    def has_ids(self) -> bool:
        return ID.search(self.after) is not None

    def without(self, special_tokens: Collection[str]) -> CallForm:
        """As it stands in a text that was decoded without them."""
        remove = re.compile("|".join(map(re.escape, special_tokens)) or "(?!)").sub
        between = None if self.between is None else remove("", self.between)
        return CallForm(remove("", self.before), remove("", self.middle), between, remove("", self.after), self.is_certain)


HERMES = CallForm(
    '<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "', "}\n</tool_call>", False
)
"""What Hermes and Qwen write, and those that learned from their answers."""


def call_form(chat: ChatTemplate, variables: Mapping[str, Any], eos_tokens: Sequence[str]) -> CallForm:
    """What the template makes of calls that an assistant made; of one that tells none, `HERMES`.

    Args:
        variables: of the template's own, on which it may depend.
    """
    parts = (tuple(sorted(values.items())) for values in (chat.sources, chat.special_tokens, variables))
    return _call_form(*parts, tuple(eos_tokens))


@lru_cache(64)
def _call_form(sources: Any, special_tokens: Any, variables: Any, eos_tokens: Sequence[str]) -> CallForm:
    chat = ChatTemplate(dict(sources), dict(special_tokens))
    prompt, one, two = (_rendered(chat, dict(variables), names) for names in ((), (FIRST,), (FIRST, SECOND)))
    start = len(prompt)
    if not one.startswith(prompt):  # an answer begins otherwise than it is begun for a model, as with a thought
        shared = prompt[: next((n for n, pair in enumerate(zip(prompt, one, strict=False)) if pair[0] != pair[1]), None)]
        start = max(shared.rfind("\n"), shared.rfind(">"), shared.rfind("]")) + 1 or len(shared)
    call = re.compile(f"{FIRST}((?:(?!{FIRST}).){{0,100}}?){ARGUMENTS}", re.DOTALL).search(one, start)
    if call is None:
        return HERMES
    before, after = one[start : call.start()], one[call.end() :]
    ends = [place for token in eos_tokens if (place := after.find(token)) >= 0]
    after = after[: min(ends)] if ends else after.rstrip()
    head = re.escape(before) + re.escape(call[0])
    pair = re.compile(f"{head}(.*?){SECOND}{re.escape(call[1])}{ARGUMENTS}", re.DOTALL).match(two, start)
    return CallForm(before, call[1], pair[1] if pair else None, after)


def _rendered(chat: ChatTemplate, variables: Mapping[str, Any], names: Sequence[str]) -> str:
    calls = [
        {"id": f"HooperId{number}", "type": "function", "function": {"name": name, "arguments": {"hooper": 1}}}
        for number, name in enumerate(names, start=1)
    ]
    answer = [{"role": "assistant", "content": "", "tool_calls": calls}] if calls else []
    try:
        return chat.render([QUESTION, *answer], TOOLS, not calls, variables)
    except InvalidInput:  # some know of one call alone
        return ""


def call_grammar(
    form: CallForm,
    functions: Sequence[tuple[str, Mapping[str, Any] | None]],
    special_tokens: Mapping[str, int],
    max_calls: int,
    document: Mapping[str, Any] | None = None,
) -> str:
    """Texts that are calls and nothing else, in the language of llguidance.

    Args:
        functions: that may be called, and the schemas of their arguments.
    """

    def literal(text: str) -> str:
        return " ".join(_lark_items(text, special_tokens))

    others = f" ({literal(form.between)} call){{0,{max_calls - 1}}}" if form.between is not None and max_calls > 1 else ""
    rules = [
        f"start: {'document | ' if document is not None else ''}calls",
        f"calls: {literal(form.before)} call{others} {literal(form.after)}",
        f"call: {' | '.join(f'call{number}' for number in range(len(functions)))}",
        "ID: /[a-zA-Z0-9]{9}/",
    ]
    for number, (name, parameters) in enumerate(functions):
        written = json.dumps(json.dumps(name, ensure_ascii=False)[1:-1])  # whatever it spells, it is no special token
        rules.append(f"call{number}: {written} {literal(form.middle)} arguments{number}")
        rules.append(f"arguments{number}: {json_rule(arguments_schema(parameters))}")
    return "\n".join([*rules, *([f"document: {json_rule(document)}"] if document is not None else [])])


def arguments_schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the arguments of a call must obey: an object, with no others than those that are named, unless the schema speaks of
    others."""
    schema = {"type": "object", **(NO_ARGUMENTS if parameters is None else parameters)}
    is_open = schema.keys() & {
        "additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref",
    }  # fmt: skip
    return schema if is_open or "properties" not in schema else {**schema, "additionalProperties": False}


def _lark_items(text: str, special_tokens: Mapping[str, int]) -> Iterator[str]:
    """A text as strings, special tokens by their numbers, and places of ids."""
    apart = re.compile("|".join([ID.pattern, *map(re.escape, sorted(special_tokens, key=len, reverse=True))]))
    place = 0
    for part in apart.finditer(text):
        if place < part.start():
            yield json.dumps(text[place : part.start()])
        yield f"<[{special_tokens[part[0]]}]>" if part[0] in special_tokens else "ID"
        place = part.end()
    if place < len(text):
        yield json.dumps(text[place:])


class CallReader:
    """The calls in a text, which special tokens are left out of."""

    def __init__(self, form: CallForm, names: Sequence[str], special_tokens: Collection[str], max_calls: int) -> None:
        """
        Args:
            form: of the model, special tokens included.
            max_calls: those behind them are left out.
        """
        self.form, self._max_calls = form.without(special_tokens), max_calls
        # as they stand in a text; the longer ones first, which others may be the beginning of
        self._names = sorted({json.dumps(name, ensure_ascii=False)[1:-1]: name for name in names}.items(), reverse=True)
        head = re.split(r"[{\[]", self.form.before, maxsplit=1)
        self._is_json = len(head) > 1
        self.mark = (head[0].split() or [""])[-1]
        """What calls begin with; empty: with JSON, or the name of a function."""
        self.beginnings = ("{", "[") if self._is_json else tuple(written for written, _ in self._names)
        """Without a mark: what they begin with."""
        self._end_mark = re.split(r"[}\]]", self.form.after)[-1].strip()

    def read(self, text: str) -> tuple[str, list[WrittenCall]]:
        """The text before the calls, and these; where one of them is none, all of it is text."""
        start = text.find(self.mark) if self.mark else 0
        if start < 0 or not (self.mark or text.lstrip().startswith(self.beginnings)):
            return text, []
        calls = list(self._objects(text[start:])) if self._is_json else self.written(text[start:])
        known = {name for _, name in self._names}
        if not calls or None in calls or (not self.mark and not all(call.name in known for call in calls if call)):
            return text, []
        return text[:start].rstrip(), [call for call in calls if call][: self._max_calls]

    def written(self, text: str) -> list[WrittenCall]:
        """Of a text that was held to the form; the arguments of the last one may be cut."""
        names = "|".join(re.escape(written) for written, _ in self._names)
        calls, place, lead = [], 0, self.form.before
        while (head := re.compile(f"{_loose(lead)}({names}){_loose(self.form.middle)}").match(text, place)) is not None:
            try:
                _, place = _DECODER.raw_decode(text, head.end())
            except json.JSONDecodeError:
                place = len(text)
            calls.append(WrittenCall(dict(self._names)[head[1]], text[head.end() : place]))
            if self.form.between is None:
                break
            lead = self.form.between
        return calls

    def _objects(self, text: str) -> Iterator[WrittenCall | None]:
        """Objects behind the mark, however they are laid out; None: something else."""
        for mark in filter(None, (self.mark, self._end_mark)):
            text = text.replace(mark, " ")
        place = 0
        while (separator := re.compile(r"[\s,;]*").match(text, place)) and separator.end() < len(text):
            try:
                value, place = _DECODER.raw_decode(text, separator.end())
            except (json.JSONDecodeError, RecursionError):
                yield None
                return
            yield from map(_as_call, value if isinstance(value, list) else [value])


def _as_call(value: Any) -> WrittenCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return WrittenCall(value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))


def _loose(text: str) -> str:
    """An expression for a text with blanks or without, and any ids."""
    parts = (re.escape(part) for part in ID.sub("\0", text).split())
    return r"\s*" + r"\s*".join(parts).replace("\0", "[a-zA-Z0-9]{9}") + r"\s*"


class CallHolder:
    """Of a growing text what is certain to be none of a call. Calls come whole, at its end."""

    def __init__(self, reader: CallReader | None, is_forced: bool) -> None:
        self._reader, self._is_held = reader, is_forced
        self._finder = StopFinder([reader.mark] if reader is not None and reader.mark else [])
        self._pending: str | None = "" if reader is not None and not reader.mark else None  # may be how a call begins

    def push(self, text: str) -> str:
        if self._is_held or self._reader is None:
            return "" if self._is_held else text
        if self._pending is None:
            return self._finder.push(text)
        self._pending += text
        seen = self._pending.lstrip()
        if seen.startswith(self._reader.beginnings):
            self._is_held = True
        if self._is_held or not seen or any(beginning.startswith(seen) for beginning in self._reader.beginnings):
            return ""
        told, self._pending = self._pending, None
        return told
