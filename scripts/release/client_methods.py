"""Signatures of the client's methods, made of the built-in tasks: `python -m scripts.release.client_methods` prints
`hooper/client/methods.pyi`, for editors and type checkers. At run time each route of each installed task has a method."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.api.protocols.explain import explain_request
from app.api.protocols.feedback import feedback_request
from app.api.protocols.results import ExplainResult, FeedbackResult
from app.tasks.registry import BUILT_IN, Tasks
from app.tasks.schemas import items_field_of

HEAD = '''"""The methods of the built-in tasks' routes. Made by `make client-methods`: change the tasks, not this file."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Literal, overload

from app.api.protocols.envelope import FailedItem
{imports}
from hooper.client.results import AnswerList

class {methods}:
'''
COMMON = {
    "errors": 'Literal["return", "raise"] = "return"',
    "timeout": "float | None = None",
    "total_timeout": "float | None = None",
    "priority": 'Literal["interactive", "bulk"] | None = None',
}
PREFIX = "v1/"


@dataclass(frozen=True, slots=True)
class MethodRoute:
    """A native route that has a method."""

    path: str
    request: type[BaseModel]
    result: type[BaseModel]
    is_whole: bool = False
    """Whether a list of items cannot be cut, nor answered as it comes."""


def client_methods() -> str:
    """The text of the file."""
    tasks = Tasks(BUILT_IN)
    routes = [MethodRoute(route.path, route.request, route.result, route.is_whole) for route in tasks.routes]
    routes.append(MethodRoute(f"{PREFIX}explain", explain_request(tasks), ExplainResult))
    routes.append(MethodRoute(f"{PREFIX}feedback", feedback_request(tasks), FeedbackResult))
    modules: dict[str, list[str]] = {}
    for route in routes:
        modules.setdefault(route.result.__module__, []).append(route.result.__name__)
    imports = "\n".join(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items()))
    lines = HEAD.format(imports=imports, methods="Methods").splitlines()
    for route in routes:
        lines += _methods(route, is_async=False)
    lines += ["", "class AsyncMethods:"]
    for route in routes:
        lines += _methods(route, is_async=True)
    return "\n".join(lines) + "\n"


def _methods(route: MethodRoute, is_async: bool) -> Iterator[str]:
    name = route.path.removeprefix(PREFIX).replace("-", "_")
    items = items_field_of(route.request)
    left_out = (items, "stream")  # a method gives the whole answer
    options = {
        field.alias or key: _parameter(field) for key, field in route.request.model_fields.items() if key not in left_out
    }
    result = route.result.__name__
    both = f"{result} | FailedItem"
    define = "async def" if is_async else "def"
    raising = {**options, **COMMON, "errors": 'Literal["raise"]'}
    yield "    @overload"
    yield from _signature(define, name, f"{items}: Any", raising, f"AnswerList[{result}]")
    yield "    @overload"
    yield from _signature(define, name, f"{items}: Any", {**options, **COMMON}, f"AnswerList[{both}]")
    if route.is_whole:
        return
    inputs = "Iterable[Any] | AsyncIterable[Any]" if is_async else "Iterable[Any]"
    iterator = "AsyncIterator" if is_async else "Iterator"
    yield from _signature("def", f"{name}_many", f"inputs: {inputs}", {**options, **COMMON}, f"{iterator}[{both}]")


def _signature(define: str, name: str, inputs: str, options: Mapping[str, str], returned: str) -> Iterator[str]:
    yield f"    {define} {name}("
    yield "        self,"
    yield f"        {inputs},"
    yield "        *,"
    for key, text in options.items():
        yield f"        {key}: {text},"
    yield f"    ) -> {returned}: ..."


def _parameter(field: FieldInfo) -> str:
    if field.is_required():
        return _words(field.annotation)
    default = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
    return f"{_words(field.annotation)} = {default}"


def _words(annotation: Any) -> str:
    """A type as it is written, without what only pydantic reads."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_words, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(f'{chr(34)}{value}{chr(34)}' for value in arguments)}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_words, arguments))}]"
    return "None" if annotation is type(None) else str(getattr(annotation, "__name__", "Any"))


if __name__ == "__main__":
    print(client_methods(), end="")
