"""Where a name is looked for, and one sentence where no hub can be reached."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from datasets import config

from app.core.errors import InvalidSettings
from scripts.training.hub import (
    data_sets_from_cache,
    model_location,
    names_a_path,
    nearest,
    unreachable_clause,
    why_unreachable,
)


@pytest.fixture(autouse=True)
def asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder and cache; what other tests found out about the hub is forgotten before and after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    why_unreachable.cache_clear()
    yield
    why_unreachable.cache_clear()


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub's address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that has nothing; the paths that it was asked for."""
    asked: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # http.server's name for it
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Not on the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def cached(name: str, folder: Path) -> Path:
    """A model as the hub's library keeps it."""
    repository = folder / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_hub_that_answers_is_asked_once_and_keeps_the_name(hub: list[str]) -> None:
    assert model_location("owner/model", "base model") == "owner/model"
    assert model_location("other", "teacher") == "other"
    assert len(hub) == 1
    assert unreachable_clause() == ""


def test_without_a_hub_one_sentence_says_what_was_looked_for_and_what_to_do(closed_port: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as raised:
        model_location("owner/model", "base model")
    assert raised.value.detail == (
        f"the base model 'owner/model' is no folder, the hub ({closed_port}) cannot be reached: no connection, and what was"
        f" fetched from it before ({tmp_path / 'cache'}) does not hold it. Name a folder, say `packaged` for the one that is"
        " installed, or fetch it where there is a network: hf download owner/model"
    )


def test_a_teacher_has_no_packaged_one_to_take_its_place(closed_port: str) -> None:
    with pytest.raises(InvalidSettings, match="the teacher 'model' is no folder") as raised:
        model_location("model", "teacher")
    assert "`packaged`" not in raised.value.detail


def test_what_was_fetched_before_is_found_without_a_hub(closed_port: str, tmp_path: Path) -> None:
    snapshot = cached("owner/model", tmp_path / "cache")
    assert Path(model_location("owner/model", "base model")) == snapshot


def test_the_variable_that_forbids_the_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.utils.reset_sessions()
    try:
        assert unreachable_clause().endswith("cannot be reached: HF_HUB_OFFLINE is set")
    finally:
        monkeypatch.undo()
        huggingface_hub.utils.reset_sessions()


def test_what_no_hub_can_have_is_not_looked_for(hub: list[str]) -> None:
    with pytest.raises(InvalidSettings, match="the base model 'my model' is no folder, and no name that a hub can have"):
        model_location("my model", "base model")
    assert hub == []


def test_a_folder_that_is_nearly_called_so_is_named(closed_port: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "film.csv").touch()
    with pytest.raises(InvalidSettings, match=r"does not hold it; did you mean films\? Name a folder"):
        model_location("film", "base model")
    assert nearest("film.cvs") == "; did you mean film.csv?"
    assert nearest("nowhere/at/all") == ""


def test_a_name_below_a_folder_that_is_here_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert [names_a_path(name) for name in ("models/foo", "./foo", "/foo", "~/foo", "a/b/c")] == [True] * 5
    assert [names_a_path(name) for name in ("foo", "owner/foo")] == [False, False]


def test_data_sets_come_from_the_cache_only_meanwhile() -> None:
    with data_sets_from_cache():
        assert config.HF_HUB_OFFLINE
    assert not config.HF_HUB_OFFLINE
