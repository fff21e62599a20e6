"""The whole error tree. No HTTP here: `app.api.errors` is the one place that turns these into statuses.

HooperError
├── CallerError                 the request can never succeed as it stands
│   ├── InvalidInput            a field is wrong (names it)
│   │   ├── EmptyBatch          a list of items has none
│   │   └── TooManyItems        a list has more items than one request may hold
│   ├── TooLarge                an item or a body exceeds a limit
│   │   └── TooManyTokens       a text has more tokens than its model reads
│   ├── UnknownModel            no such model, or none for this task
│   ├── NotEnabled              the service was started without this
│   ├── UnknownHost             it was sent to a name that is not the service's
│   ├── ForbiddenOrigin         a page sent it that may not
│   └── Unauthorized            missing or wrong key
├── TryLater                    the same request may succeed later
│   ├── Overloaded              the queue is full (carries the seconds to wait)
│   │   └── RateLimited         this key has asked too often; others are answered
│   ├── DeadlineExceeded        the caller's deadline passed before the answer
│   └── Unavailable             loading, draining, or the engine is down
│       ├── ModelFailed         the model that was asked for could not be loaded
│       ├── NotStored           what was to be kept is not on the disk: full, locked, or broken
│       ├── EngineFailed        the engine ran these rows and failed, or gave no finite numbers
│       │   ├── OutOfMemory     it had no memory for them
│       │   └── EngineStalled   it did not end in time, and was stopped
│       └── EngineLost          its thread is stuck or dead: nothing runs on it any more
└── SetupError                  the service or the command cannot start as configured
    ├── InvalidSettings         a setting is unknown or nonsense
    ├── InvalidArtefact         a model folder is broken, altered or unsafe
    └── ProviderUnavailable     the wished execution provider is not there
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_DETAIL = 1000


def brief(detail: str) -> str:
    """A sentence without the end of what is too long for one: it may quote a name that a caller made up."""
    return detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…"


class HooperError(Exception):
    """Base of everything Hooper raises on purpose; `detail` is safe to show to a caller."""

    type = "error"
    status: int | None = None
    """HTTP status of the answer that it came with, where a service told it: see `hooper.Client`."""
    request_id = ""
    """Of that answer: what the service's log has it under."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CallerError(HooperError):
    type = "invalid_request"


class InvalidInput(CallerError):
    type = "invalid_input"

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field, self.reason = field, detail

    def within(self, outer: str) -> InvalidInput:
        """The same error, named from where the caller stands: `text` in `inputs` is `inputs.text`."""
        return InvalidInput(self.reason, f"{outer}.{self.field}" if self.field else outer)


class EmptyBatch(InvalidInput):
    """Told as any invalid input, but by protocols that have a status of their own for it."""


class TooManyItems(InvalidInput):
    """Told as any invalid input, but by protocols that have a status of their own for it."""


class TooLarge(CallerError):
    type = "too_large"

    def __init__(self, detail: str, truncations: Sequence[str] = (), pronoun: str = "it") -> None:
        """
        Args:
            detail: what is too large, and for what.
            truncations: values of the option `truncation` with which it would be read.
            pronoun: what the detail speaks of, in one word.
        """
        self._fact, self._pronoun, self.truncations = detail, pronoun, tuple(truncations)
        super().__init__(self._advising(_native_option(truncations)) if truncations else detail)

    def advising(self, option: str) -> TooLarge:
        """The same error, with the option as the caller's protocol writes it."""
        return type(self)(self._advising(option))

    def _advising(self, option: str) -> str:
        return f"{self._fact}; send {self._pronoun} with {option}"


class TooManyTokens(TooLarge):
    """Told as any that is too large, but by protocols that have a name of their own for it."""


def _native_option(truncations: Sequence[str]) -> str:
    return '"truncation": ' + " or ".join(f'"{truncation}"' for truncation in truncations)


class UnknownModel(CallerError):
    type = "unknown_model"


class NotEnabled(CallerError):
    type = "not_enabled"


class UnknownHost(CallerError):
    type = "unknown_host"


class ForbiddenOrigin(CallerError):
    type = "forbidden_origin"


class Unauthorized(CallerError):
    type = "unauthorized"


class TryLater(HooperError):
    type = "try_later"


class Overloaded(TryLater):
    type = "overloaded"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    type = "rate_limited"


class DeadlineExceeded(TryLater):
    type = "deadline_exceeded"


class Unavailable(TryLater):
    type = "unavailable"


class ModelFailed(Unavailable):
    type = "model_failed"


class NotStored(Unavailable):
    type = "not_stored"


class EngineFailed(Unavailable):
    type = "engine_failed"


class OutOfMemory(EngineFailed):
    type = "out_of_memory"


class EngineStalled(EngineFailed):
    type = "engine_stalled"


class EngineLost(Unavailable):
    type = "engine_lost"


class SetupError(HooperError):
    type = "setup"


class InvalidSettings(SetupError):
    type = "invalid_settings"


class InvalidArtefact(SetupError):
    type = "invalid_artefact"


class ProviderUnavailable(SetupError):
    type = "provider_unavailable"
