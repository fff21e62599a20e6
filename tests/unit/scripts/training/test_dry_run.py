"""What a dry run finds, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.train_and_export import main
from scripts.training import dry_run as module
from scripts.training.dry_run import sample_of
from scripts.training.recipe import Recipe
from tests.support.tiny_model import publish_tiny
from tests.unit.scripts.conftest import Train, fast_options, write_reviews


def lines_of(printed: str) -> dict[str, list[str]]:
    """The level and sentence of each line, by the name that it stands under."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in printed.splitlines():
        name = line[: module.NAME].strip() or name
        found.setdefault(name, []).append(" ".join(line[module.NAME :].split()))
    return found


def names_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


DryRun = Callable[..., dict[str, list[str]]]


@pytest.fixture
def dry_run(train: Train, capsys: pytest.CaptureFixture[str]) -> DryRun:
    """Runs the command with `--dry-run`; what it printed. It must end with the exit code that is given."""

    def run(*arguments: str, code: int = 0, **named: Any) -> dict[str, list[str]]:
        assert train("--dry-run", *arguments, **named) == code
        return lines_of(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def plain(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """One dry run of what is all right: what it printed, and what lay in the folder before and after."""
    place = tmp_path_factory.mktemp("dry")
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patched:
        temporary = tmp_path_factory.mktemp("tmp")
        patched.setattr("tempfile.tempdir", str(temporary))
        write_reviews(Path("reviews.csv"))
        before = names_below(place)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(["reviews.csv", *fast_options(base_folder), "--dry-run"]) == 0
        left = [*names_below(place), *names_below(temporary)]
    return lines_of(printed.getvalue()), before, left


def test_each_thing_is_checked_once_and_in_order(plain: Any) -> None:
    found, _, _ = plain
    assert list(found) == ["task", "data", "base model", "export", "memory", "time", "disk", "publish", "dry run"]
    assert all(line.startswith("ok ") for name, lines in found.items() if name != "dry run" for line in lines)
    assert found["data"][0] == "ok 48 rows to train on, 12 held out"
    assert found["base model"][0].startswith("ok tiny-bert: 0.0 million weights, inputs of up to 64 tokens")
    assert found["export"][0].startswith("ok the untrained model becomes a graph in packed layout")
    assert found["publish"] == ["ok models/reviews/1, the first version, which serves from the next start on"]


def test_the_time_is_that_of_the_runs_own_number_of_updates(plain: Any) -> None:
    (line,) = plain[0]["time"]
    assert line.startswith("ok an estimate: about ")
    assert "for 6 updates (1 epochs) at " in line


def test_nothing_is_written(plain: Any) -> None:
    _, before, left = plain
    assert before == left == ["reviews.csv"]


def test_the_end_is_the_command_that_trains(plain: Any) -> None:
    (end,) = plain[0]["dry run"]
    assert end.startswith(
        "0 problems, 0 warnings; nothing was trained or written; train with: hooper train reviews.csv --base-model"
    )
    assert "--dry-run" not in end


def test_what_was_not_found_stops_only_what_needs_it(dry_run: DryRun) -> None:
    found = dry_run("--base-model", "./missing", code=2)
    assert found["base model"] == ["problem the base model folder ./missing does not exist"]
    assert found["data"][0] == "ok 48 rows to train on, 12 held out"
    assert found["publish"][0].startswith("ok models/reviews/1")
    assert not {"export", "time"} & set(found)
    assert found["dry run"][0].startswith("1 problem, 0 warnings; nothing was trained or written; the run would stop")


def test_data_that_cannot_be_read_is_a_problem_beside_others(dry_run: DryRun, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    reviews.write_text("text,label\n", encoding="utf-8")
    found = dry_run("--task", "text-classification", code=2)
    assert found["data"] == ["problem reviews.csv has no rows"]
    assert found["publish"][0].startswith("ok ")


def test_what_may_go_wrong_is_a_warning_and_what_serves_now_is_told(dry_run: DryRun, reviews: Path, tmp_path: Path) -> None:
    reviews.write_text(reviews.read_text(encoding="utf-8") + "well,negative\n" * 3, encoding="utf-8")
    publish_tiny(tmp_path / "models", name="reviews")
    checkpoint = tmp_path / "runs" / "reviews" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    found = dry_run()
    assert any(line.startswith("warning duplicates: ") for line in found["data"])
    assert found["run folder"][0].startswith("warning runs/reviews holds an unfinished run (checkpoint-3)")
    assert found["publish"][0].startswith(
        "ok reviews/2 serves from the next start on, in place of reviews/1, unless it is worse"
    )
    assert checkpoint.is_dir()


def test_all_problems_are_told_at_once(dry_run: DryRun) -> None:
    found = dry_run("--freeze", "9", "--resume", "--models", "reviews.csv", code=2)
    assert found["resume"][0].startswith("problem there is nothing to resume")
    assert found["training"] == ["problem freeze is 9, but the model has only 2 layers"]
    assert found["disk"][0].startswith("problem reviews.csv/reviews cannot be written: ")
    assert found["dry run"][0].startswith("3 problems, ")


def test_a_padded_layout_is_a_warning(dry_run: DryRun, save: Any) -> None:
    base = save("decoder", "GPT2", pad_token_id=None, eos_token_id=9, bos_token_id=9)
    found = dry_run("--base-model", str(base))
    assert found["export"][0].startswith("warning the untrained model becomes a graph in padded layout")


def test_a_teacher_with_other_labels_is_told(dry_run: DryRun, save: Any) -> None:
    found = dry_run("--teacher", str(save("teacher")), code=2)
    assert found["teacher"][0].startswith("problem the teacher ")
    assert "has other labels than the data" in found["teacher"][0]


def test_too_little_memory_is_found_before_anything_is_tried(dry_run: DryRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_free_bytes", lambda: 1000)
    found = dry_run(code=1)
    assert "are free; lower --max-tokens or --micro-batch" in found["memory"][0]
    assert "time" not in found


def test_a_disk_without_room_is_a_problem(monkeypatch: pytest.MonkeyPatch, tiny_model: Any) -> None:
    monkeypatch.setattr(module, "disk_needs", lambda recipe, weights: {Path("runs"): 10**18})
    begun: Any = SimpleNamespace(recipe=Recipe(data=["x"]), model=tiny_model("Bert"))
    (check,) = module._disk(begun)
    assert (check.level, check.exit_code) == ("problem", 2)
    assert check.detail.startswith("at most about 1000000000.0 GB in runs; ")


def test_a_sample_is_spread_and_has_the_longest() -> None:
    class Entry:
        def __init__(self, item: str) -> None:
            self.item = item

    examples: Any = [Entry("x" * (number % 7)) for number in range(5000)] + [Entry("x" * 100)]
    spaced, longest = sample_of(examples, 1000)
    assert 500 < len(spaced) <= 1000
    assert len(longest) == module.LONGEST
    assert len(longest[0].item) == 100


def test_on_a_terminal_lines_are_as_wide_as_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    module._show(module.RunCheck("data", "warning", "a sentence of many words " * 10), "")
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert printed[0].startswith("data       warning  a sentence")
    assert all(line.startswith(" " * (module.NAME + module.LEVEL)) for line in printed[1:])
