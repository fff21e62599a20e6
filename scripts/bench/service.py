"""Programs that are started, a service until a block ends or another to its end, and what /proc says of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from app.core.errors import SetupError

START_S, END_S, POLL_S = 180.0, 60.0, 0.1
OK = 200


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens; `key` is sent with every request where there is one."""

    host: str
    port: int
    key: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str, method: str = "GET", body: Any = None, timeout_s: float = 120.0) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            OSError: nobody answers.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        content = None if body is None else json.dumps(body).encode()
        headers |= {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, content, headers, method=method)  # noqa: S310 - http alone
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - http alone
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def status(self, path: str, method: str = "GET") -> int:
        return self.ask(path, method)[0]

    def text(self, path: str) -> str:
        """What stands behind a path.

        Raises:
            OSError: nobody answers, or not with 200.
        """
        return self._good("GET", path, None, 30.0).decode()

    def get(self, path: str) -> Any:
        """The JSON behind a path; raises as `text` does."""
        return json.loads(self.text(path))

    def post(self, path: str, body: Any) -> Any:
        """The JSON that is answered to a JSON body; raises as `text` does."""
        return json.loads(self._good("POST", path, body, 60.0))

    def metric(self, name: str) -> dict[str, float]:
        """A metric's values by their labels, as they stand in the exposition: `{model="a"}`."""
        lines = (line.rpartition(" ") for line in self.text("/metrics").splitlines() if line.startswith(name + "{"))
        return {labels.removeprefix(name): float(value) for labels, _, value in lines}

    def metric_sum(self, name: str) -> float:
        return sum(self.metric(name).values())

    def _good(self, method: str, path: str, body: Any, timeout_s: float) -> bytes:
        status, answer = self.ask(path, method, body, timeout_s)
        if status != OK:
            raise OSError(f"{path} answers {status}: {answer[:200].decode(errors='replace')}")
        return answer


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """What the threads of a process took so far: its first thread, on which an event loop runs, and all others together."""

    loop_us: float
    """Microseconds on a core."""
    loop_switches: int
    """Times that it had nothing to do, and was woken again."""
    others_us: float
    others_switches: int

    def __sub__(self, before: ThreadTimes) -> ThreadTimes:
        return ThreadTimes(
            self.loop_us - before.loop_us,
            self.loop_switches - before.loop_switches,
            self.others_us - before.others_us,
            self.others_switches - before.others_switches,
        )


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """A running process, as Linux' /proc describes it."""

    pid: int

    def memory_mib(self, field: str = "VmRSS") -> int:
        """`VmRSS`: what is resident now; `VmHWM`: the peak since it started, or since `forget_peak`."""
        return next(kib for name, kib in self._fields("status") if name == field) // 1024

    def memory_mb(self) -> tuple[float, float, float]:
        """Resident, proportional (shared pages divided by who shares them) and private memory."""
        fields = dict(self._fields("smaps_rollup"))
        rss, pss, private = (round(fields[name] * 1024 / 1e6, 1) for name in ("Rss", "Pss", "Anonymous"))
        return rss, pss, private

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def cpu_s(self) -> float:
        """Seconds of all its threads on a core so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime

    def thread_times(self) -> ThreadTimes:
        """By the kernel's scheduler. A thread that ended takes its share with it."""
        us, switches = [0.0, 0.0], [0, 0]  # of the first thread, of the others
        for folder in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):  # it ended meanwhile
                index = int(folder.name != str(self.pid))
                on_core_ns = int((folder / "schedstat").read_text(encoding="ascii").split()[0])
                status = (folder / "status").read_text(encoding="utf-8")
                us[index] += on_core_ns / 1000
                switches[index] += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return ThreadTimes(us[0], switches[0], us[1], switches[1])

    def open_files(self) -> list[str]:
        """What each of its file descriptors is: a path, `socket:[…]`, …"""
        targets = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                targets.append(str(link.readlink()))
        return targets

    def num_threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())

    def command(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")

    def children(self) -> list[ProcessStats]:
        file = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [ProcessStats(int(pid)) for pid in file.read_text(encoding="ascii").split()] if file.exists() else []

    def descendants(self) -> list[ProcessStats]:
        """Itself and all that it has started, directly or not."""
        return [self, *(process for child in self.children() for process in child.descendants())]

    def _fields(self, file: str) -> Iterator[tuple[str, int]]:
        """The lines `Name:  123 kB`."""
        for line in Path(f"/proc/{self.pid}/{file}").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                yield name, int(value.split()[0])


@dataclass(frozen=True, slots=True)
class StartedService:
    """A service that was started, and its process."""

    address: Address
    process: subprocess.Popen[bytes]

    @property
    def stats(self) -> ProcessStats:
        return ProcessStats(self.process.pid)


def hooper_serve(port: int) -> list[str]:
    """The command of this code's own service; its port comes from the settings."""
    return [sys.executable, "-m", "app.cli", "serve"]


@contextmanager
def start_service(
    settings: Mapping[str, str],
    command: Callable[[int], Sequence[str]] = hooper_serve,
    *,
    folder: Path | None = None,
    log: IO[Any] | None = None,
    key: str = "",
    ready_path: str = "/health/ready",
    start_s: float = START_S,
) -> Iterator[StartedService]:
    """A service on a free port until the block ends; then it gets SIGTERM, and what is left of it SIGKILL.

    Args:
        settings: environment variables besides this process's, such as `HOOPER_MODELS`; an empty value removes one.
        command: from the port to the words of the command.
        folder: where it runs; by default here.
        log: where it writes; by default to this process's standard error.
        key: sent with every request to it.
        ready_path: what it answers with 200 once it is ready.

    Raises:
        SetupError: it does not get ready.
    """
    address = Address("127.0.0.1", free_port(), key)
    environment = _environment({"HOOPER_LOG_LEVEL": "warning", **settings, "HOOPER_PORT": str(address.port)})
    output = 2 if log is None else log
    with subprocess.Popen(
        command(address.port), env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
    ) as process:
        try:
            wait_until_ready(address, process, start_s, ready_path)
            yield StartedService(address, process)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            with suppress(ProcessLookupError):  # workers that do not end with it, or it itself
                os.killpg(process.pid, signal.SIGKILL)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Of this process, with these settings, but for those that are empty."""
    return {name: value for name, value in {**os.environ, **settings}.items() if value or name not in settings}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_ready(
    address: Address, process: subprocess.Popen[bytes] | None = None, seconds: float = START_S, path: str = "/health/ready"
) -> None:
    """
    Raises:
        SetupError: the process ended, or does not answer 200 on the path in time.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            raise SetupError(f"the service ended with exit code {process.returncode} before it was ready")
        with suppress(OSError):  # nobody listens yet
            if address.status(path) == OK:
                return
        time.sleep(POLL_S)
    raise SetupError(f"the service was not ready after {seconds:.0f} seconds")


def run_program(command: Sequence[str | Path], name: str, settings: Mapping[str, str] | None = None) -> str:
    """What a program prints until it ends.

    Args:
        settings: environment variables besides this process's; an empty value removes one.

    Raises:
        SetupError: it failed; with the last lines that it wrote.
    """
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(settings or {}))
    if ran.returncode:
        lines = (ran.stderr.strip() or ran.stdout.strip()).splitlines()
        raise SetupError(f"{name} failed: {' / '.join(lines[-3:]) or 'no reason given'}")
    return ran.stdout


def run_module(words: Sequence[str], name: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object that `python -m …` prints as JSON in its last line: a measurement with a process's settings to itself."""
    output = run_program([sys.executable, "-m", *words], name, settings)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result
