"""`from hooper import …`: everything by one name, and nothing that is not used."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hooper
import scripts.api

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "fastapi", "onnxruntime", "scripts", "app")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_hooper_imports_nothing_else() -> None:
    assert run(f"import sys, hooper; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_every_name_of_the_training_api_is_there() -> None:
    for name in ("get_dataset", "question_answering", "summarizer", "text_classifier", "text_regressor"):
        assert getattr(hooper, name) is getattr(scripts.api, name)
    assert set(hooper.__all__) <= set(dir(hooper))


def test_every_task_is_reached_by_its_name_too() -> None:
    assert hooper.task_api("text-regression") == hooper.text_regressor


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hooper' has no attribute 'classifier'"):
        hooper.classifier  # noqa: B018


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_data_and_no_tools_of_developers(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"hooper/__init__.py", "app/main.py", "scripts/api/__init__.py", "scripts/report/page.html.j2"} <= set(names)
    assert "scripts/recipes/sentiment.toml" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"app", "hooper", "scripts"}
    assert not [name for name in names if name.startswith(("scripts/peers/", "scripts/reliability/", "scripts/release/"))]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); import hooper; print(hooper.__file__)"
    assert run(f"{code}; hooper.load; assert 'torch' not in sys.modules").startswith(str(tmp_path))
