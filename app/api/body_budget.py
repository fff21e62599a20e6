"""How many bytes of request bodies this process holds at a time, whoever sent them."""

from __future__ import annotations

HELD = "hooper.held_body"
"""Key of the scope under which a connection notes what it holds of a request's body, for the middleware to go on counting."""


class HeldBody:
    """What one request holds of the budget. Invariant: `release` gives back all of it, once, and nothing is held afterwards."""

    __slots__ = ("_budget", "_is_over", "_num_bytes", "is_refused", "is_whole")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget, self._num_bytes, self._is_over = budget, 0, False
        self.is_refused = False
        """Whether there was no room: a part of the body may be lost, and the request must be refused."""
        self.is_whole = False
        """Whether the whole body was read."""

    def hold(self, num_bytes: int) -> bool:
        """Hold so many bytes in all, if there is room for them; what is held already never shrinks.

        Returns:
            Whether they are held.
        """
        more = num_bytes - self._num_bytes
        if self._is_over or more <= 0:
            return not self._is_over
        if self._budget.held_bytes + more > self._budget.max_bytes:
            self.is_refused = True
            self.release()
            return False
        self._num_bytes = num_bytes
        self._budget.held_bytes += more
        return True

    def release(self) -> None:
        self._budget.held_bytes -= self._num_bytes
        self._num_bytes, self._is_over = 0, True


class BodyBudget:
    """The bytes that all requests of a process may hold together.

    A body that tells its length is counted with all of it before the first byte is read, so that whoever has begun can go on;
    one that does not is counted as it comes. What the server has buffered counts before anybody has looked at the request.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.held_bytes = max_bytes, 0

    def account(self) -> HeldBody:
        return HeldBody(self)
