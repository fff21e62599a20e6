"""The command that photographs the pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.release.screenshots import MAX_BYTES, OUT, REPORT, SHOTS, main

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_it_takes_a_picture_of_the_running_service(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--only", "playground-phone"]) == 0
    (picture,) = tmp_path.iterdir()
    assert picture.name == "playground-phone.png"
    assert picture.read_bytes().startswith(PNG)


def test_the_documents_have_every_picture_and_none_is_too_large() -> None:
    for shot in (*SHOTS, REPORT):
        content = (OUT / f"{shot.name}.png").read_bytes()
        assert content.startswith(PNG)
        assert len(content) <= MAX_BYTES
