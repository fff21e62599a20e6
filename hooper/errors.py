"""What may go wrong when a model is asked, here or at a service: each a `HooperError`, with one sentence as `detail`.

An error that a service answered with is raised as the class that its problem's `type` names, with `status` and `request_id`:

HooperError
├── CallerError          it can never succeed as it stands: InvalidInput, TooLarge, UnknownModel, Unauthorized, NotEnabled, …
├── TryLater             it may succeed later: Overloaded (429), RateLimited, Unavailable (503), DeadlineExceeded (504)
│   └── Unreachable      no answer came: refused, closed, or not in time (TimedOut)
├── ServiceFailed        the service failed (500), or its answer is none of Hooper's
└── ItemsFailed          some items of a list were not answered, and `errors="raise"` was asked for
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.core import errors as core
from app.core.errors import CallerError as CallerError
from app.core.errors import DeadlineExceeded as DeadlineExceeded
from app.core.errors import EngineFailed as EngineFailed
from app.core.errors import EngineLost as EngineLost
from app.core.errors import EngineStalled as EngineStalled
from app.core.errors import ForbiddenOrigin as ForbiddenOrigin
from app.core.errors import HooperError as HooperError
from app.core.errors import InvalidArtefact as InvalidArtefact
from app.core.errors import InvalidInput as InvalidInput
from app.core.errors import InvalidSettings as InvalidSettings
from app.core.errors import ModelFailed as ModelFailed
from app.core.errors import NotEnabled as NotEnabled
from app.core.errors import NotStored as NotStored
from app.core.errors import OutOfMemory as OutOfMemory
from app.core.errors import Overloaded as Overloaded
from app.core.errors import ProviderUnavailable as ProviderUnavailable
from app.core.errors import RateLimited as RateLimited
from app.core.errors import SetupError as SetupError
from app.core.errors import TooLarge as TooLarge
from app.core.errors import TryLater as TryLater
from app.core.errors import Unauthorized as Unauthorized
from app.core.errors import Unavailable as Unavailable
from app.core.errors import UnknownHost as UnknownHost
from app.core.errors import UnknownModel as UnknownModel


class NotFound(CallerError):
    """The service has no such path: another version of it, or another service."""

    type = "not_found"


class ServiceFailed(HooperError):
    """The service failed, or what answered is no service of Hooper's."""

    type = "internal"


class Unreachable(TryLater):
    """No answer came. Whether the request was done is not known, unless the connection was refused."""

    type = "unreachable"


class TimedOut(Unreachable):
    """No answer came in the time that the caller has for it, all attempts and waits included."""

    type = "timed_out"


class ItemsFailed(HooperError):
    """Items of a list were not answered. `results` holds everything, with those errors in their places."""

    type = "items_failed"

    def __init__(self, detail: str, results: Sequence[Any]) -> None:
        super().__init__(detail)
        self.results = results

    @classmethod
    def of(cls, failed: Sequence[tuple[int, str]], results: Sequence[Any]) -> ItemsFailed:
        """
        Args:
            failed: number and reason of each item that failed, at least one.
            results: of all items.
        """
        number, reason = failed[0]
        detail = f"{len(failed):,} of {len(results):,} items could not be answered; the first is inputs[{number}]: {reason}"
        return cls(detail, results)


def error_from_service(status: int, kind: str, detail: str, request_id: str, retry_after_s: float | None) -> HooperError:
    """The error that an answer tells.

    Args:
        status: of the answer.
        kind: `type` of its problem document; empty: it has none.
        detail: its sentence.
        request_id: what the service calls the request.
        retry_after_s: seconds to wait by the answer's header, where it has one.
    """
    error_class = _classes().get(kind) or _class_of_status(status)
    if issubclass(error_class, Overloaded):
        error: HooperError = error_class(detail, retry_after_s or 0.0)
    else:
        error = error_class(detail)
    error.status, error.request_id = status, request_id
    return error


def _class_of_status(status: int) -> type[HooperError]:
    by_status: dict[int, type[HooperError]] = {
        401: Unauthorized, 404: NotFound, 413: TooLarge, 429: Overloaded, 502: Unavailable, 503: Unavailable,
        504: DeadlineExceeded,
    }  # fmt: skip
    return by_status.get(status) or (CallerError if 400 <= status < 500 else ServiceFailed)


def _classes() -> dict[str, type[HooperError]]:
    """By the `type` of problem documents; of classes that share one, the one that defines it."""
    local = {error.type: error for error in (NotFound, ServiceFailed)}
    return {
        error.type: error for error in _tree(core.HooperError) if "type" in vars(error) and error.__module__ == core.__name__
    } | local


def _tree(root: type[HooperError]) -> Iterator[type[HooperError]]:
    yield root
    for error in root.__subclasses__():
        yield from _tree(error)
