"""Signatures of the client's methods, made of the built-in tasks: `python -m scripts.release.client_methods` prints
`hooper/client/methods.pyi`, for editors and type checkers. At run time each route of each installed task has a method."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.api.protocols.explain import explain_request
from app.api.protocols.feedback import feedback_request
from app.api.protocols.results import ExplainResult, FeedbackResult
from app.tasks.registry import BUILT_IN, Tasks

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


def client_methods() -> str:
    """The text of the file."""
    tasks = Tasks(BUILT_IN)
    routes: list[tuple[str, type[BaseModel], type[BaseModel]]] = [
        (route.path, route.request, route.result) for route in tasks.routes
    ]
    routes += [
        (f"{PREFIX}explain", explain_request(tasks), ExplainResult),
        (f"{PREFIX}feedback", feedback_request(tasks), FeedbackResult),
    ]
    modules: dict[str, list[str]] = {}
    for _, _, result in routes:
        modules.setdefault(result.__module__, []).append(result.__name__)
    imports = "\n".join(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items()))
    lines = HEAD.format(imports=imports, methods="Methods").splitlines()
    for path, request, result in routes:
        lines += _methods(path, request, result, is_async=False)
    lines += ["", "class AsyncMethods:"]
    for path, request, result in routes:
        lines += _methods(path, request, result, is_async=True)
    return "\n".join(lines) + "\n"


def _methods(path: str, request: type[BaseModel], result: type[BaseModel], is_async: bool) -> Iterator[str]:
    name = path.removeprefix(PREFIX).replace("-", "_")
    options = {key: _parameter(field) for key, field in request.model_fields.items() if key != "inputs"}
    both = f"{result.__name__} | FailedItem"
    define = "async def" if is_async else "def"
    raising = {**options, **COMMON, "errors": 'Literal["raise"]'}
    yield "    @overload"
    yield from _signature(define, name, "Any", raising, f"AnswerList[{result.__name__}]")
    yield "    @overload"
    yield from _signature(define, name, "Any", {**options, **COMMON}, f"AnswerList[{both}]")
    inputs = "Iterable[Any] | AsyncIterable[Any]" if is_async else "Iterable[Any]"
    iterator = "AsyncIterator" if is_async else "Iterator"
    yield from _signature("def", f"{name}_many", inputs, {**options, **COMMON}, f"{iterator}[{both}]")


def _signature(define: str, name: str, inputs: str, options: Mapping[str, str], returned: str) -> Iterator[str]:
    yield f"    {define} {name}("
    yield "        self,"
    yield f"        inputs: {inputs},"
    yield "        *,"
    for key, text in options.items():
        yield f"        {key}: {text},"
    yield f"    ) -> {returned}: ..."


def _parameter(field: FieldInfo) -> str:
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
