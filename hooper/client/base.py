"""What both clients are: an address, a key, and a method for each route."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx
from pydantic import BaseModel

from app.api.protocols.envelope import FailedItem
from app.api.protocols.state import ModelState, Published, Ready
from app.core.errors import InvalidSettings
from hooper.client.exchange import (
    MODELS_PATH,
    Call,
    RawAnswer,
    Schema,
    ServiceLimits,
    Steps,
    TimeLimit,
    encoded,
    exchange,
    typed,
    value_of,
)
from hooper.client.results import AnswerList, PartAnswers
from hooper.client.routes import ClientRoute, routes
from hooper.errors import ItemsFailed
from hooper.inputs import ReadInputs

OnError = Literal["return", "raise"]
JSON = {"Content-Type": "application/json"}
DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_IN_FLIGHT = 4
MANY = "_many"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call says besides the options of its route."""

    errors: OnError = "return"
    timeout: float | None = None
    total_timeout: float | None = None
    priority: Literal["interactive", "bulk"] | None = None

    @classmethod
    def split(cls, keywords: Mapping[str, Any]) -> tuple[CallOptions, dict[str, Any]]:
        """These, and the options of the route.

        Raises:
            InvalidSettings: one of them has a value that it cannot have.
        """
        names = cls.__dataclass_fields__
        own = cls(**{name: value for name, value in keywords.items() if name in names})
        if own.errors not in ("return", "raise"):
            raise InvalidSettings(f"errors must be 'return' or 'raise', not {own.errors!r}")
        for name in ("timeout", "total_timeout"):
            check_seconds(name, getattr(own, name))
        return own, {name: value for name, value in keywords.items() if name not in names}


class ClientBase:
    """How requests are made, not how they are sent."""

    def __init__(self, url: str, key: str | None, timeout: float | None, max_in_flight: int) -> None:
        check_seconds("timeout", timeout)
        if max_in_flight < 1:
            raise InvalidSettings(f"max_in_flight must be at least 1, not {max_in_flight}")
        self._url = _checked_url(url)
        self._headers = _headers(key)
        self._has_key = key is not None
        self._timeout, self._max_in_flight = timeout, max_in_flight
        self._limits, self._rng = ServiceLimits(), random.Random()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}{', with a key' if self._has_key else ''}>"

    if not TYPE_CHECKING:  # which knows the methods of `methods.pyi`, and that there are no others

        def __getattr__(self, name: str) -> Any:
            """The method of a route: `classify`, and `classify_many`."""
            if name.startswith("_"):
                raise AttributeError(name)
            route = routes().get(name.removesuffix(MANY))
            if route is None or (route.is_whole and name.endswith(MANY)):
                raise AttributeError(f"{type(self).__name__} has no {name!r}; its routes are {', '.join(routes())}")
            return _method(self._ask_many if name.endswith(MANY) else self._ask, route, name)

    def __dir__(self) -> list[str]:
        many = (name + MANY for name, route in routes().items() if not route.is_whole)
        return [*super().__dir__(), *routes(), *many]

    def _ask(self, route: ClientRoute, inputs: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def _ask_many(self, route: ClientRoute, inputs: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def _call(self, route: ClientRoute, own: CallOptions, options: Mapping[str, Any]) -> Call:
        encoded(dict(options))  # what cannot be sent is refused before anything is
        headers = JSON | ({"X-Priority": own.priority} if own.priority else {})
        timeout_s = self._timeout if own.timeout is None else own.timeout
        return Call(route, options, headers, self._limits, timeout_s, TimeLimit(own.total_timeout), self._rng)

    def _once(
        self, method: str, path: str, body: Any = None, *, wait_s: float | None = None, is_repeatable: bool = True
    ) -> Steps[RawAnswer]:
        """One request of its own kind."""
        content, headers = (None, {}) if body is None else (encoded(body), JSON)
        deadline = TimeLimit(self._timeout if wait_s is None else wait_s)
        return exchange(method, path.lstrip("/"), content, headers, deadline, self._rng, is_repeatable)

    def _post(self, path: str, body: Mapping[str, Any], is_idempotent: bool) -> Steps[Any]:
        return value_of((yield from self._once("POST", path, dict(body), is_repeatable=is_idempotent)))

    def _models(self) -> Steps[list[ModelState]]:
        answer = yield from self._once("GET", MODELS_PATH)
        value = value_of(answer)
        self._limits.learn(value)
        entries = value.get("models", []) if isinstance(value, dict) else []
        return [typed(ModelState, answer, entry) for entry in entries]

    def _read_one(self, schema: type[Schema], steps: Steps[RawAnswer]) -> Steps[Schema]:
        answer = yield from steps
        return typed(schema, answer, value_of(answer))

    def _health(self, wait_s: float) -> Steps[Ready]:
        steps = self._once("GET", "health/ready", wait_s=wait_s or None, is_repeatable=wait_s > 0)
        return self._read_one(Ready, steps)

    def _admin(self, name: str, action: str, query: Mapping[str, int | None], body: Any = None) -> Steps[Published]:
        words = "&".join(f"{key}={value}" for key, value in query.items() if value is not None)
        path = f"{MODELS_PATH}/{name}/{action}{'?' + words if words else ''}"
        return self._read_one(Published, self._once("POST", path, body, is_repeatable=False))


def answers_of(route: ClientRoute, inputs: ReadInputs, part: PartAnswers, errors: OnError) -> AnswerList[Any]:
    """What a method of a route gives back.

    Raises:
        ItemsFailed: an item was not answered, and the caller wants to hear so.
    """
    answers = AnswerList(part.results, part, route.table, inputs.index)
    if errors == "raise":
        answers.check()
    return answers


def check_result(result: BaseModel, errors: OnError, number: int) -> None:
    """
    Raises:
        ItemsFailed: an item of a stream was not answered, and the caller wants to hear so.
    """
    if errors == "raise" and isinstance(result, FailedItem):
        raise ItemsFailed(f"inputs[{number}] could not be answered: {result.error.detail}", [result])


def check_seconds(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise InvalidSettings(f"{name} must be more than 0 seconds, or None, not {value!r}")


def _method(ask: Callable[..., Any], route: ClientRoute, name: str) -> Callable[..., Any]:
    def method(*inputs: Any, **options: Any) -> Any:
        if not inputs and route.items_field in options:
            inputs = (options.pop(route.items_field),)
        if len(inputs) != 1:
            raise TypeError(f"{name}() takes {route.items_field}, and options by their names")
        return ask(route, inputs[0], **options)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"POST /{route.path}. {route.description}"
    return method


def _checked_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        InvalidSettings: it is none, or holds a password.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise InvalidSettings("the url is none; it looks like http://127.0.0.1:8000") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidSettings(f"the url must look like http://127.0.0.1:8000, not {str(parsed.copy_with(userinfo=b''))!r}")
    if parsed.userinfo:  # it would stand in logs
        raise InvalidSettings(
            "the url holds a name or a password; give a key as `key`, and for a proxy `auth=(name, password)`"
        )
    return url.rstrip("/")


def _headers(key: str | None) -> dict[str, str]:
    headers = {"User-Agent": "hooper-python"}
    if key is None:
        return headers
    key = key.strip()  # blanks at its ends are of the file that it was copied from
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidSettings("the key is empty, or holds characters that no key has")  # and is not quoted
    return headers | {"Authorization": f"Bearer {key}"}
