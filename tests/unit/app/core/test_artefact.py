"""Versions appear and disappear whole; which of them serves, and since when a name is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core import artefact
from app.core.artefact import (
    SERVING,
    Serving,
    ServingRecords,
    first_published,
    latest_version,
    next_release,
    open_artefact,
    read_serving,
    replace_manifest,
    versions_in,
    withdraw,
    write_serving,
)
from app.core.errors import InvalidArtefact, SetupError
from app.core.manifest import describe_file, read_manifest
from app.serving.repository import Repository
from tests.support.mutated_model import sign_again

BROKEN = [
    pytest.param("[" * 100_000, id="nested without end"),
    "",
    "[]",
    "{}",
    '{"version": 0}',
    '{"version": true}',
    '{"version": "1"}',
    '{"version": 1.5}',
    "7",
    "null",
    "\xff",
]


def publish_as(models: Path, name: str, version: int, **changes: object) -> Path:
    folder = Path(shutil.copytree(models / "tiny" / "1", models / name / str(version)))
    sign_again(folder, name=name, version=version, **changes)
    return folder


# --- a version appears and disappears whole


def test_what_was_filled_is_found_under_the_next_number(tmp_path: Path) -> None:
    for number in (1, 2):
        with next_release(tmp_path, "films") as made:
            (made.staging / "file").write_text(str(number))
            assert not made.folder.exists()
        assert (made.version, made.folder) == (number, tmp_path / "films" / str(number))
        assert (made.folder / "file").read_text() == str(number)


def test_what_was_begun_and_failed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), next_release(tmp_path / "models", "films"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_withdrawn_version_is_out_of_sight_before_its_files_are_deleted(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    remove = shutil.rmtree

    def look(path: Any) -> None:
        seen.append((models / "tiny" / "1").exists())
        remove(path)

    monkeypatch.setattr(artefact.shutil, "rmtree", look)
    withdraw(models / "tiny" / "1")
    assert seen == [False]
    assert not list(models.iterdir())


def test_a_version_that_is_not_there_cannot_be_withdrawn(models: Path) -> None:
    with pytest.raises(SetupError, match="cannot be removed: No such file"):
        withdraw(models / "tiny" / "7")
    assert [path.name for path in (models / "tiny").iterdir()] == ["1"]


def test_a_sealed_version_has_its_own_number_and_checksums_of_the_files_that_were_added(models: Path) -> None:
    source = open_artefact(models / "tiny" / "1")
    with next_release(models, "tiny") as release:
        release.add_files(source)
        (release.staging / "added.txt").write_text("more")
        sealed = release.seal(source.manifest.model_copy(update={"description": "with more"}))
    published = open_artefact(models / "tiny" / "2")
    assert published.manifest == sealed
    assert sealed.files == {**source.manifest.files, "added.txt": describe_file(published.folder / "added.txt")}
    assert (sealed.version, sealed.first_published) == (2, source.first_published)


def test_a_version_with_a_file_that_differs_from_its_checksum_is_not_published(models: Path) -> None:
    source = open_artefact(models / "tiny" / "1")

    def publish() -> None:
        with next_release(models, "tiny") as release:
            release.add_files(source)
            (release.staging / "golden.json").write_text("[]")
            release.seal(source.manifest)

    with pytest.raises(InvalidArtefact, match=r"golden\.json differs"):
        publish()
    assert versions_in(models / "tiny") == [1]


def test_what_a_version_says_of_itself_is_replaced_in_one_step(models: Path) -> None:
    before = open_artefact(models / "tiny" / "1")
    replace_manifest(before, before.manifest.model_copy(update={"description": "better known"}))
    after = open_artefact(before.folder)
    assert after.manifest.description == "better known"
    assert [path.name for path in before.folder.parent.iterdir()] == ["1"]


def test_the_latest_version_is_the_highest_number_with_a_manifest_or_the_folder_itself(models: Path) -> None:
    for number in ("9", "10", "11"):
        shutil.copytree(models / "tiny" / "1", models / "tiny" / number)
    (models / "tiny" / "11" / "manifest.json").unlink()
    assert latest_version(models / "tiny") == models / "tiny" / "10"
    assert latest_version(models / "tiny" / "9") == models / "tiny" / "9"
    assert latest_version(models) is None


# --- the record of what serves


def test_a_record_is_read_as_it_was_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert read_serving(tmp_path) is None
    write_serving(tmp_path / "new", 3, "loaded")
    serving = read_serving(tmp_path / "new")
    assert serving is not None
    assert (serving.version, serving.why) == (3, "loaded")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [SERVING]
    assert (tmp_path / "new" / SERVING).stat().st_mode & 0o777 == 0o644


def test_a_record_by_hand_needs_nothing_but_the_version(tmp_path: Path) -> None:
    (tmp_path / SERVING).write_text('{"version": 2, "who": "me"}')
    assert read_serving(tmp_path) == Serving(2, "written by hand")


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_record_is_told_with_what_helps(tmp_path: Path, text: str) -> None:
    (tmp_path / SERVING).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidArtefact, match=f"{SERVING} cannot be read .*load a version by its number, or remove the file"):
        read_serving(tmp_path)


def test_a_record_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder" / SERVING).mkdir(parents=True)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / SERVING).symlink_to(tmp_path / "nowhere")
    for folder in ("folder", "link"):
        with pytest.raises(InvalidArtefact, match="no plain file"):
            read_serving(tmp_path / folder)


# --- the version that serves


def test_without_a_record_the_latest_version_serves(models: Path) -> None:
    publish_as(models, "tiny", 2)
    assert Repository(models).served_version("tiny") == 2


def test_what_was_loaded_serves_whatever_is_published_beside_it_by_hand(models: Path) -> None:
    publish_as(models, "tiny", 2)
    write_serving(models / "tiny", 1, "loaded")
    publish_as(models, "tiny", 3)
    assert Repository(models).served_version("tiny") == 1
    assert Repository(models).open_served("tiny").id == "tiny/1"
    assert Repository(models).find("tiny", served=True).id == "tiny/1"
    assert Repository(models).find("tiny/2", served=True).id == "tiny/2"
    assert Repository(models).open("tiny").id == "tiny/3"


def test_publishing_moves_on_from_a_rollback_and_a_folder_put_beside_moves_on_from_a_publication(models: Path) -> None:
    publish_as(models, "tiny", 2)
    write_serving(models / "tiny", 1, "loaded")
    with next_release(models, "tiny") as release:
        shutil.copytree(models / "tiny" / "1", release.staging, dirs_exist_ok=True)
        sign_again(release.staging, version=release.version)
    assert Repository(models).served_version("tiny") == release.version == 3
    serving = read_serving(models / "tiny")
    assert serving is not None
    assert serving.why == "published"
    publish_as(models, "tiny", 4)
    assert Repository(models).served_version("tiny") == 4


@pytest.mark.parametrize("record", [None, "published", "loaded"])
def test_a_version_that_is_published_without_serving_leaves_the_one_that_does(models: Path, record: str | None) -> None:
    if record:
        write_serving(models / "tiny", 1, record)
    with next_release(models, "tiny", serves=False) as release:
        shutil.copytree(models / "tiny" / "1", release.staging, dirs_exist_ok=True)
        sign_again(release.staging, version=release.version)
    assert (release.version, Repository(models).served_version("tiny")) == (2, 1)
    publish_as(models, "tiny", 3)  # by hand, which nobody is to take for more than it is
    assert Repository(models).served_version("tiny") == 1


def test_a_name_s_first_version_serves_in_any_case(models: Path) -> None:
    with next_release(models, "new", serves=False) as release:
        shutil.copytree(models / "tiny" / "1", release.staging, dirs_exist_ok=True)
        sign_again(release.staging, version=1, name="new")
    assert Repository(models).served_version("new") == 1


def test_what_a_service_has_loaded_since_counts_for_more_than_a_version_that_was_kept(models: Path, tmp_path: Path) -> None:
    publish_as(models, "tiny", 2)
    write_serving(models / "tiny", 2, "published")
    assert ServingRecords(models, str(tmp_path / "state")).write("tiny", 1, "loaded")
    with next_release(models, "tiny", serves=False) as release:
        shutil.copytree(models / "tiny" / "1", release.staging, dirs_exist_ok=True)
        sign_again(release.staging, version=release.version)
    assert Repository(models, str(tmp_path / "state")).served_version("tiny") == 1


@pytest.mark.parametrize("why", ["loaded", "published"])
def test_a_version_that_is_gone_is_replaced_by_no_other(models: Path, why: str) -> None:
    write_serving(models / "tiny", 7, why)
    with pytest.raises(InvalidArtefact, match=rf"names version 7 \({why}\), which is not there"):
        Repository(models).served_version("tiny")


def test_a_folder_that_the_system_does_not_look_into_is_told_and_is_not_taken_for_one_without_a_record(models: Path) -> None:
    records = ServingRecords(models, f"/{'long' * 100}")
    with pytest.raises(InvalidArtefact, match=r"serving.json cannot be read \(File name too long\)"):
        records.read("tiny")


# --- another folder for a read-only repository


def test_the_state_folder_takes_the_records_and_the_later_of_two_counts(models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    records = ServingRecords(models, str(state))
    write_serving(models / "tiny", 2, "published")
    assert records.write("tiny", 1, "loaded")
    assert json.loads((state / "tiny" / SERVING).read_text())["version"] == 1
    assert (records.read("tiny") or Serving(0, "")).version == 1
    (models / "tiny" / SERVING).write_text('{"version": 3, "why": "published", "at": "2999-01-01T00:00:00+00:00"}')
    assert (records.read("tiny") or Serving(0, "")).version == 3
    (models / "tiny" / SERVING).write_text('{"version": 3}')  # of no time: it was there before
    assert (records.read("tiny") or Serving(0, "")).version == 1


def test_where_nothing_can_be_written_that_is_said(models: Path, tmp_path: Path) -> None:
    (models / "tiny" / SERVING).mkdir()
    (tmp_path / "file").write_text("")
    assert not ServingRecords(models).write("tiny", 1, "loaded")
    assert not ServingRecords(models, str(tmp_path / "file")).write("tiny", 1, "loaded")
    assert ServingRecords(models, str(tmp_path / "state")).write("tiny", 1, "loaded")


# --- since when a name is published


def test_a_model_is_as_old_as_its_oldest_version(models: Path) -> None:
    publish_as(models, "tiny", 2, created="2025-01-01T00:00:00Z")
    assert first_published(models / "tiny") == "2026-01-01T00:00:00Z"  # of version 1, which has no field for it
    sign_again(models / "tiny" / "1", first_published="2024-05-05T00:00:00+00:00")
    assert first_published(models / "tiny") == "2024-05-05T00:00:00+00:00"
    (models / "tiny" / "1" / "manifest.json").write_text("broken")
    assert first_published(models / "tiny") == "2025-01-01T00:00:00Z"
    assert first_published(models / "nobody") == ""


def test_a_release_is_told_since_when_its_name_is_published(models: Path) -> None:
    with next_release(models, "tiny") as later:
        assert later.first_published == "2026-01-01T00:00:00Z"
    with next_release(models, "new") as first:
        assert first.first_published > "2026-01-01"


def test_the_manifests_of_earlier_releases_open_without_it(models: Path) -> None:
    assert read_manifest(models / "tiny" / "1").first_published == ""


# --- removing


def test_with_the_last_version_its_record_and_its_folder_go(models: Path) -> None:
    write_serving(models / "tiny", 1, "loaded")
    withdraw(models / "tiny" / "1")
    assert not (models / "tiny").exists()
