"""The real service: a process of its own, over real sockets."""

from __future__ import annotations

import os
import queue
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.settings import PREFIX
from scripts.bench.service import free_port as free_port
from tests.support.forks import Fork

ROOT = Path(__file__).parents[2]
HOOPER = ("-m", "app.cli")
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients over plain HTTP: each would read the certificates of all authorities, which takes longer than to ask."""


class LiveService:
    """A started service, and what it has written to standard error so far."""

    def __init__(self, process: subprocess.Popen[str] | Fork, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._fresh: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))
                self._fresh.put(line)
        self._fresh.put(None)

    def wait_for(self, *words: str) -> None:
        """Return once lines have had all of these words, in any order; a process that ends without them is an error."""
        missing = set(words)
        while missing:
            line = self._fresh.get()
            if line is None:
                raise AssertionError(f"the service ended without {missing}:\n" + "\n".join(self.lines))
            missing -= {word for word in missing if word in line}

    def wait(self) -> int:
        """Its exit code, once it has ended by itself and all its lines are read."""
        code = self.process.wait()
        self._reader.join()
        return code

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=None, verify=NO_TLS)

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=None, verify=NO_TLS, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Over a connection of its own."""
        with self.client() as client:
            return client.request(method, path, **options)


@contextmanager
def started(
    models: Path | None,
    run: Sequence[str] = (),
    options: Sequence[str] = (),
    cwd: Path = ROOT,
    site: Path | None = None,
    **settings: object,
) -> Iterator[LiveService]:
    """`hooper serve` with these settings on a free port; killed at the end if it still runs.

    `models`: the model repository, or none: what is there by default; `run`: what Python is told to run: `HOOPER`, where a
    start as people have it is what matters, or another program; a fork of one that has imported Hooper where nothing is told;
    `options`: what stands behind `serve`; `cwd`: the folder that it stands in; `site`: a folder with packages to be found as
    well.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    named = {"models": models, "port": port, "device": "cpu", "engine_threads": 1} | settings
    environment |= {PREFIX + name.upper(): str(value) for name, value in named.items() if value is not None}
    environment["PYTHONPATH"] = os.pathsep.join(
        str(entry) for entry in (ROOT, site) if entry
    )  # wherever it stands, it is this checkout that runs
    process: subprocess.Popen[str] | Fork
    if run:
        command = [sys.executable, *run, "serve", *options]
        process = subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)
    else:
        process = Fork(["serve", *options], cwd, environment)
    running = LiveService(process, port)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        running.wait()


@contextmanager
def serving(
    models: Path | None,
    run: Sequence[str] = (),
    options: Sequence[str] = (),
    cwd: Path = ROOT,
    site: Path | None = None,
    **settings: object,
) -> Iterator[LiveService]:
    """The same, once it is ready."""
    with started(models, run, options, cwd, site, **settings) as running:
        running.wait_for("ready: ", "Uvicorn running")
        yield running
