"""Programs are started, waited for, looked at and ended, and what fails is told with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench.service import OK, Address, ProcessStats, run_module, run_program, start_service, wait_until_ready


def test_the_last_line_is_told_and_settings_reach_the_process(tmp_path: Path) -> None:
    code = "import json, os, sys\nprint('progress')\nprint(json.dumps({'given': sys.argv[1:], 'set': os.environ['ONE']}))\n"
    (tmp_path / "talker.py").write_text(code, encoding="utf-8")
    settings = {"PYTHONPATH": str(tmp_path), "ONE": "1"}
    assert run_module(["talker", "--way", ""], "talker", settings) == {"given": ["--way", ""], "set": "1"}


def test_a_process_that_fails_is_told_with_its_last_words_or_without_any(tmp_path: Path) -> None:
    settings = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "loud.py").write_text("import sys\nsys.exit('first\\nthe reason')\n", encoding="utf-8")
    (tmp_path / "silent.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"^one failed: first / the reason$"):
        run_module(["loud"], "one", settings)
    with pytest.raises(SetupError, match=r"^two failed: no reason given$"):
        run_module(["silent"], "two", settings)


SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if self.path == "/missing" else 200)
        text = (self.headers.get("Authorization") or "").encode() + b' 3\\nrows{model="a"} 2.5\\nrows{model="b"} 1\\n'
        self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text)
    def log_message(self, *arguments): pass
if os.fork() == 0:
    held = open(sys.argv[2], "w")  # closed by the system when the worker ends, and not before
    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: signal.pause()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_service_is_up_within_the_block_and_gone_with_its_workers_after_it(tmp_path: Path) -> None:
    script, worker = tmp_path / "server.py", tmp_path / "worker"
    script.write_text(SERVER)
    os.mkfifo(worker)
    with start_service({}, lambda port: [sys.executable, str(script), str(port), str(worker)], key="k") as service:
        assert service.address.status("/") == OK
        assert service.address.text("/").startswith("Bearer k")
        assert service.address.metric("rows") == {'{model="a"}': 2.5, '{model="b"}': 1.0}
        assert service.address.metric_sum("rows") == 3.5
        assert service.address.status("/missing") == 404
        with pytest.raises(OSError, match="/missing answers 404"):
            service.address.text("/missing")
        held = worker.open()
        assert len(service.stats.descendants()) == 2
        assert str(script) in service.stats.command()
    with pytest.raises(OSError):
        service.address.text("/")
    with held:
        assert held.read() == ""  # returns when the worker has ended


def test_a_service_that_ends_at_once_or_never_gets_ready_is_told() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(SetupError, match="ended with exit code 3"), start_service({}, lambda _: command):
        pass
    with pytest.raises(SetupError, match="was not ready after 0 seconds"):
        wait_until_ready(Address("127.0.0.1", 1), seconds=0.01)


def test_a_setting_without_a_value_removes_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "1")
    code = "import os; print(os.environ.get('SOME_VARIABLE', 'none'))"
    assert run_program([sys.executable, "-c", code], "x") == "1\n"
    assert run_program([sys.executable, "-c", code], "x", {"SOME_VARIABLE": ""}) == "none\n"


def test_a_process_is_described_as_the_kernel_sees_it() -> None:
    own = ProcessStats(os.getpid())
    rss, pss, private = own.memory_mb()
    assert rss >= pss >= private > 10
    before = len(own.open_files())
    with Path(os.devnull).open():
        assert len(own.open_files()) == before + 1
    assert own.num_threads() >= 1
    assert own.cpu_s() > 0


CHILD = """
for line in open(0):
    touched = b"x" * (64 * 2**20) if line == "touch\\n" else b""
    print("done", flush=True)
"""


def test_memory_that_was_touched_is_seen_and_its_peak_is_forgotten_when_asked() -> None:
    # a process of its own: this one is large by now, and the system may take pages from it meanwhile
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        peaks = []
        process = ProcessStats(child.pid)
        for word in ("begin", "touch", "let go"):
            child.stdin.write(f"{word}\n")
            assert child.stdout.readline() == "done\n"
            if word != "touch":
                process.forget_peak()
            peaks.append(process.memory_mib("VmHWM"))
        child.stdin.close()
    before, touched, after = peaks
    assert touched >= before + 60
    assert after < before + 60


def test_the_threads_of_a_process_are_told_apart_by_what_they_took() -> None:
    stats = ProcessStats(os.getpid())
    before = stats.thread_times()
    ended = threading.Event()

    def work() -> None:
        sum(range(2_000_000))
        ended.set()
        waiting.wait()

    waiting = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    ended.wait()
    taken = stats.thread_times() - before
    waiting.set()
    thread.join()
    assert taken.others_us > 1000
    assert taken.others_us > taken.loop_us
