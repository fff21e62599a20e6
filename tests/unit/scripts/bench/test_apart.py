"""What a process of its own tells reaches the benchmark, and so does why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench.apart import told_by


def test_the_last_line_is_told_and_settings_reach_the_process(tmp_path: Path) -> None:
    code = "import json, os, sys\nprint('progress')\nprint(json.dumps({'given': sys.argv[1:], 'set': os.environ['ONE']}))\n"
    (tmp_path / "talker.py").write_text(code, encoding="utf-8")
    settings = {"PYTHONPATH": str(tmp_path), "ONE": "1"}
    assert told_by(["talker", "--way", ""], "talker", settings) == {"given": ["--way", ""], "set": "1"}


def test_a_process_that_fails_is_told_with_its_last_words_or_without_any(tmp_path: Path) -> None:
    settings = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "loud.py").write_text("import sys\nsys.exit('first\\nthe reason')\n", encoding="utf-8")
    (tmp_path / "silent.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"^one failed: the reason$"):
        told_by(["loud"], "one", settings)
    with pytest.raises(SetupError, match=r"^two failed: no reason given$"):
        told_by(["silent"], "two", settings)
