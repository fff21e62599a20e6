"""The supervisor: starts the engine process and its front ends, starts again what dies, and ends all of it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import InvalidSettings, SetupError
from app.core.exit_codes import EXIT_GAVE_UP, EXIT_SETUP
from app.processes.child import ENGINE_SILENCE_RUNS, SILENCE_S, Child, ChildConfig, ChildExit
from app.processes.http import Listening, ending_signals, listen
from app.settings import Settings

QUICK_EXIT_S = 10.0
"""A process that died sooner had hardly begun: another will hardly do better."""
MAX_QUICK_EXITS = 5
"""So many quick deaths in a row are one too many."""
PAUSE_S, MAX_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often the process in one place has died."""

    num: int = 0
    num_quick: int = 0
    """In a row, up to now."""

    def after(self, lived_s: float) -> RestartPolicy:
        return RestartPolicy(self.num + 1, self.num_quick + 1 if lived_s < QUICK_EXIT_S else 0)

    def give_up_reason(self, name: str, max_restarts: int | None) -> str:
        """Why there is no use in another one; empty where there is.

        Args:
            max_restarts: how often it may be started again; None: as often as it lives for a while.
        """
        if max_restarts is not None and self.num > max_restarts:
            made_good = f"of which {max_restarts} are made good (HOOPER_ENGINE_REPLACEMENTS)"
            return f"the {name} process has died {self.num} times, {made_good}"
        if max_restarts is None and self.num_quick >= MAX_QUICK_EXITS:
            return f"{name} has died {self.num_quick} times in a row within {QUICK_EXIT_S:g} s of its start"
        return ""

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next: none after a long life, then longer and longer."""
        return 0.0 if not self.num_quick else float(min(MAX_PAUSE_S, PAUSE_S * 2 ** (self.num_quick - 1)))


ENGINE, FRONT_END = "app.processes.engine", "app.processes.front_end"
KILL_AFTER_S = 15.0
"""Beyond twice the time to drain (for connections, then for what still runs), what a child gets to end before it is killed: an
engine may have to be left behind."""
MAX_PATH_BYTES = 90
"""Bytes of the folder's path: that of a Unix socket may have 107."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """With what the service ends."""

    code: int = 0
    sentence: str = ""


class Supervisor:
    """Invariant: in each place there is one process, or another about to be started, until `run` ends; then there is none."""

    def __init__(self, settings: Settings, folder: Path, sockets: Sequence[Listening]) -> None:
        self._settings, self._folder, self._sockets = settings, folder, sockets
        self._front_ends = [f"front end {number + 1}" for number in range(settings.front_ends)]
        self._children: dict[str, Child] = {}
        self._over = asyncio.Event()
        self._ending = ExitStatus()
        self._is_stopping = False

    async def run(self) -> ExitStatus:
        """Until a signal, or until a process cannot be started or kept."""
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, self._on_signal, number)
        keeping = {name: asyncio.create_task(self._keep(name)) for name in ("engine", *self._front_ends)}
        await self._over.wait()
        logger.info("Shutting down")
        for listening in self._sockets:
            listening.close()
        await self._finish({name: keeping[name] for name in self._front_ends})
        await self._finish({"engine": keeping["engine"]})
        return self._ending

    def _on_signal(self, number: signal.Signals) -> None:
        is_request = number in (signal.SIGINT, signal.SIGTERM)  # a terminal that closes says so several times
        if is_request and self._is_stopping:  # again: somebody is in a hurry
            for child in self._children.values():
                child.kill()
        self._is_stopping |= is_request
        self._over.set()

    async def _keep(self, name: str) -> None:
        try:
            await self._keep_alive(name)
        except Exception as error:  # whatever it is: a place that nobody keeps must not go unnoticed
            logger.exception("the %s process cannot be kept", name)
            self._end(ExitStatus(EXIT_GAVE_UP, f"the {name} process cannot be started or watched ({type(error).__name__})"))

    async def _keep_alive(self, name: str) -> None:
        deaths = RestartPolicy()
        while not self._over.is_set():
            child = self._children[name] = await Child.start(*self._config_for(name, deaths.num > 0), self._silence_s(name))
            if self._over.is_set():
                child.finish()
            ended = await child.ended()
            del self._children[name]
            if self._over.is_set():
                return
            deaths = deaths.after(ended.lived_s)
            self._judge(name, ended, deaths)
            if deaths.pause_s:
                await self._pause(deaths.pause_s)

    def _judge(self, name: str, ended: ChildExit, deaths: RestartPolicy) -> None:
        """Say what happened, and end the service where another one of its kind would not help."""
        reason = deaths.give_up_reason(name, self._settings.engine_replacements if name == "engine" else None)
        if ended.failure:
            self._end(ExitStatus(EXIT_SETUP, ended.failure))
        elif reason:
            self._end(ExitStatus(EXIT_GAVE_UP, f"{reason}; the last one ended with {ended.how}"))
        else:
            logger.error("the %s process is gone (%s) and is started again", name, ended.how)

    def _end(self, ending: ExitStatus) -> None:
        if not self._over.is_set():
            self._ending = ending
            self._over.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    def _silence_s(self, name: str) -> float:
        return SILENCE_S if name != "engine" else max(SILENCE_S, ENGINE_SILENCE_RUNS * self._settings.engine_run_s)

    def _config_for(self, name: str, is_successor: bool) -> tuple[str, ChildConfig]:
        is_engine = name == "engine"
        config = ChildConfig(
            name,
            self._settings.model_dump(mode="json"),
            str(self._folder),
            os.getpid(),
            is_successor,
            () if is_engine else tuple(listening.fileno() for listening in self._sockets),
        )
        return ENGINE if is_engine else FRONT_END, config

    async def _finish(self, keeping: dict[str, asyncio.Task[None]]) -> None:
        """Let these end what they have begun, and kill those that take too long over it."""
        for name in keeping:
            if name in self._children:
                self._children[name].finish()
        _, late = await asyncio.wait(keeping.values(), timeout=2 * self._settings.drain_s + KILL_AFTER_S)
        for name, task in keeping.items():
            if task in late and name in self._children:
                logger.error("the %s process did not end in time and is killed", name)
                self._children[name].kill()
        await asyncio.gather(*keeping.values())


def supervise(settings: Settings) -> ExitStatus:
    """Serve from several processes until a signal, or until that is not possible.

    Raises:
        SetupError: the port or a folder for what the processes share is not available.
        InvalidSettings: this is not Linux.
    """
    if sys.platform != "linux":
        raise InvalidSettings("HOOPER_FRONT_ENDS: more than one needs Linux; leave it at 1 here")
    if settings.feedback:
        raise InvalidSettings("HOOPER_FEEDBACK needs HOOPER_FRONT_ENDS=1: one process writes the file of corrections")
    with ExitStack() as stack:
        folder = stack.enter_context(_shared_folder())
        sockets = [stack.enter_context(opened) for opened in listen(settings.host, settings.port)]
        where = ", ".join(f"{address} port {port}" for address, port, *_ in (opened.getsockname() for opened in sockets))
        logger.info("%d front ends listen on %s", settings.front_ends, where)
        return asyncio.run(Supervisor(settings, folder, sockets).run())


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """A folder that nobody else may look into, until the block ends."""
    try:
        holder = tempfile.TemporaryDirectory(prefix="hooper-", ignore_cleanup_errors=True)
    except OSError as error:
        raise SetupError(f"there is no folder for what the processes share; set TMPDIR to one ({error.strerror})") from None
    with holder as name:
        if len(os.fsencode(name)) > MAX_PATH_BYTES:
            raise SetupError(f"{name} is too long for the path of a socket; set TMPDIR to a shorter one")
        (Path(name) / "metrics").mkdir()
        yield Path(name)
