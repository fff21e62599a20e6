"""ReadAhead: inputs are read on a thread while the engine computes."""

from __future__ import annotations

import threading
from collections.abc import Generator

from app.cli.inputs import Asked

MAX_ITEMS = 256
MAX_CHARACTERS = 1_000_000


class ReadAhead:
    """Invariant: it holds at most `max_items` inputs of `max_characters` together, or one longer one.

    The thread is a daemon: whoever stops does not wait for a pipe in which nothing comes.
    """

    def __init__(
        self, inputs: Generator[Asked, None, None], max_items: int = MAX_ITEMS, max_characters: int = MAX_CHARACTERS
    ) -> None:
        self._inputs, self._max_items, self._max_characters = inputs, max_items, max_characters
        self._held: list[Asked] = []
        self._num_characters = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._read, name="read-ahead", daemon=True).start()

    def take(self) -> list[Asked]:
        """All that has been read, at least one input; nothing once all are taken.

        Raises:
            HooperError: what stopped the reading, after everything before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._is_over)
            taken, self._held, self._num_characters = self._held, [], 0
            self._changed.notify_all()
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def close(self) -> None:
        """Let the thread end, wherever it is."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for one in self._inputs:
                if not self._put(one):
                    return
        except BaseException as error:  # it belongs to whoever takes
            self._failure = error
        finally:
            self._inputs.close()  # the file, too
            self.close()

    def _put(self, one: Asked) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(one) or self._is_over)
            if self._is_over:
                return False
            self._held.append(one)
            self._num_characters += one.num_characters
            self._changed.notify_all()
        return True

    def _has_room(self, one: Asked) -> bool:
        fits = len(self._held) < self._max_items and self._num_characters + one.num_characters <= self._max_characters
        return fits or not self._held
