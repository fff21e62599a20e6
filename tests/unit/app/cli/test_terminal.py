"""The bar says how far it is and how long it will take."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from app.cli import terminal
from app.cli.terminal import Progress, progress_line, share_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("share", "rows", "failed", "rate", "shown"),
    [
        (0.5, 1000, 0, 100.0, "[############............]  50%  1,000 rows, 100 a second, 0:00:10 left"),
        (0.25, 1000, 3, 0.5, "[######..................]  25%  1,000 rows, 3 errors, 0 a second, 1:40:00 left"),
        (1.5, 9, 0, 1.0, "[########################] 100%  9 rows, 1 a second, 0:00:00 left"),
        (0.0, 0, 0, 0.0, "[........................]   0%  0 rows"),
    ],
)
def test_the_bar_is_one_line(share: float, rows: int, failed: int, rate: float, shown: str) -> None:
    assert progress_line(share, rows, failed, rate) == shown


def test_the_bar_is_shown_on_a_terminal_and_wiped_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(terminal, "EVERY_S", 0.0)
    shown = Progress(0, lambda rows: rows / 10)
    shown.update(5, 1)
    shown.clear()
    told = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "50%  5 rows, 1 errors" in told
    assert told.endswith("\r\x1b[K")


def test_nothing_is_shown_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(0, lambda rows: 0.5)
    shown.update(5, 0)
    shown.clear()
    assert capsys.readouterr().err == ""


def test_how_much_of_a_file_has_been_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    with (tmp_path / "a").open("rb", buffering=0) as file:
        share = share_of(file)
        assert share(0) == 0
        file.read(250)
        assert share(0) == 0.25
