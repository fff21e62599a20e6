"""Bad input to `hooper train` ends in one clear sentence, an exit code that is not 0, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.train_and_export import ROOT, main
from scripts.training.run_folder import RunFolder, refusal
from tests.unit.scripts.conftest import fast_options, write_reviews

FAST = ("--epochs", "1", "--batch-size", "8", "--precision", "fp32")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says; only the data lies there before and after."""
    before = sorted(Path().rglob("*"))
    assert main([*arguments, *FAST]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sorted(Path().rglob("*")) == before
    return said[0]


def test_one_class_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.csv").write_text("text,label\n" + "".join(f"film {number},a\n" for number in range(30)))
    assert refused(capsys, "one.csv") == "hooper train: the training data has only one label (a); two are needed"


@pytest.mark.parametrize("name", ["empty.csv", "empty.tsv", "empty.jsonl", "header.csv"])
def test_an_empty_file(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_text("text,label\n" if name == "header.csv" else "")
    assert refused(capsys, name) == f"hooper train: {name} has no rows"


def test_an_empty_validation_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(Path("reviews.csv"))
    Path("dev.csv").write_text("text,label\n")
    assert refused(capsys, "reviews.csv", "--validation", "dev.csv") == "hooper train: dev.csv has no rows"


def test_a_label_in_the_validation_data_that_training_never_saw(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(Path("reviews.csv"))
    Path("dev.csv").write_text("text,label\nfine,positive\nwell,mixed\n")
    said = refused(capsys, "reviews.csv", "--validation", "dev.csv")
    assert "1 of 2 held-out rows have a label that training never saw, for example dev.csv:3 (label 'mixed' is not" in said


def test_a_text_of_a_megabyte_is_kept_and_told(place: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(Path("reviews.csv"), extra=[f"{'bad ' * 250_000},negative"])
    assert main(["reviews.csv", *fast_options(base_folder), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 text has more than 100,000 characters (reviews.csv:62: 1,000,000)" in said
    assert "broken" not in said


def test_a_pair_too_long_to_be_read_is_a_broken_row(place: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"premise {n},hypothesis {n},{n % 2}" for n in range(200)]
    Path("pairs.csv").write_text("\n".join(["text,text_pair,label", *lines, f"{'x' * 15_000},{'y' * 1_001},1"]))
    assert main(["pairs.csv", *fast_options(base_folder), "--dry-run"]) == 0
    assert "pairs.csv:202 (the pair has 16,001 characters, at most 16,000 are read)" in capsys.readouterr().out


def run(
    place: Path, base: Path, *arguments: str, limit_bytes: int = 0, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as its own process, which may write files of so many bytes at most, or is somebody else."""
    code = (
        "import resource, sys; from scripts.train_and_export import main;"
        f"{limit_bytes} and resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); sys.exit(main())"
    )
    obedient = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*obedient, sys.executable, "-c", code, "reviews.csv", "--base-model", str(base), *FAST]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(place)}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_full_disk(place: Path, base_folder: Path) -> None:
    write_reviews(Path("reviews.csv"))
    ran = run(place, base_folder, limit_bytes=8 * 1024)  # no graph fits, not even of the trial before training
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("hooper train: File too large")
    assert "nothing was published" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not Path("runs").exists()
    assert not Path("models").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root is refused nothing")
@pytest.mark.slow
@pytest.mark.parametrize("what", ["reviews.csv", "runs"])
def test_no_permission(what: str, place: Path, base_folder: Path) -> None:
    write_reviews(Path("reviews.csv")).chmod(0o000 if what == "reviews.csv" else 0o644)
    place.chmod(0o555)  # nothing can be made here
    before = sorted(place.rglob("*"))
    ran = run(place, base_folder)
    place.chmod(0o755)
    assert ran.returncode == 2, ran.stderr
    said = ran.stderr.splitlines()[-1]
    assert "ermission denied" in said
    assert what in said
    assert "Traceback" not in ran.stderr
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a"), "No space left on device: a"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "a checkpoint could not be"),
        (OSError(2, "No such file or directory"), None),
        (ValueError("os error"), None),
    ],
)
def test_what_a_disk_refuses_is_known_whoever_says_it(error: Exception, said: str | None) -> None:
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("something else") from inner
    except ValueError as outer:
        found = refusal(outer)
    assert found == said if said is None else (found or "").startswith(said)


def test_what_was_cut_off_is_swept_away_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path)
    for name in ("checkpoint-1", "checkpoint-2", "final.partial", "final"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    run_folder.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "final"]
