"""What runs at every push and every tag may do little, and is what a person runs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.live_service import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
WRITES = {
    "attest": {"id-token": "write", "attestations": "write"},
    "publish": {"id-token": "write"},
    "images": {"contents": "read", "packages": "write"},
}
"""Jobs that may do more than read the repository, and what."""


def loaded(name: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    workflow: dict[str, Any] = yaml.safe_load(text)
    return workflow


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_action_is_pinned_by_its_commit(file: Any) -> None:
    used = [line.strip().removeprefix("- ") for line in file.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert PINNED.fullmatch(line), line


@pytest.mark.parametrize("name", ["ci", "release"])
def test_a_job_may_do_nothing_that_it_does_not_need(name: str) -> None:
    workflow = loaded(name)
    assert workflow["permissions"] == {}
    for job, wishes in workflow["jobs"].items():
        assert wishes["permissions"] == WRITES.get(job, {"contents": "read"})
        assert wishes["timeout-minutes"] <= 90


@pytest.mark.parametrize("name", ["ci", "release"])
def test_no_step_keeps_a_key_or_runs_what_a_stranger_wrote(name: str) -> None:
    for step in steps(loaded(name)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "an expression in a script is replaced before the shell reads it"
        assert "secrets." not in str(step)


def test_the_same_is_run_as_before_a_commit() -> None:
    assert ".ci/run" in [step.get("run") for step in steps(loaded("ci"))]
    assert ".ci/run" in [step.get("run") for step in steps(loaded("release"))]


def test_the_slow_tests_and_the_measure_of_coverage_run_every_night() -> None:
    workflow = loaded("ci")
    assert {"cron": "43 2 * * *"} in workflow[True]["schedule"], "`on` is true in YAML"
    slow = workflow["jobs"]["slow"]
    assert "github.event.schedule == '43 2 * * *'" in slow["if"]
    assert {"make test-slow", "make coverage"} <= {step.get("run") for step in slow["steps"]}


def test_images_bear_the_versions_tag_and_go_where_the_repository_says() -> None:
    job = loaded("release")["jobs"]["images"]
    assert (job["needs"], job["environment"]) == ("attest", "release")
    assert job["if"] == "vars.IMAGE_REGISTRY != ''"
    script = next(step["run"] for step in job["steps"] if "docker push" in step.get("run", ""))
    pushed = subprocess.run(
        ["bash", "-euc", f'docker() {{ echo "$@"; }}\n{script}'],
        env={**os.environ, "REGISTRY": "registry.test", "REPOSITORY": "Some/Hooper", "TAG": "v1.2.3"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    image = "registry.test/some/hooper:1.2.3"
    assert [line for line in pushed if line.startswith("push")] == [
        f"push {image}", f"push {image}-gpu", f"push {image}-train"
    ]  # fmt: skip
    assert "latest" not in script


def test_nothing_is_published_that_was_not_checked_and_attested() -> None:
    workflow = loaded("release")
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}, "`on` is true in YAML"
    assert (jobs["publish"]["needs"], jobs["attest"]["needs"]) == ("attest", "check")
    (check,) = [step for step in jobs["check"]["steps"] if step.get("run") == "make release-check"]
    assert check["env"]["TAG"] == "${{ github.ref_name }}"
    assert jobs["publish"]["environment"] == "release"


def test_every_target_of_tests_says_in_how_many_processes_they_run() -> None:
    """What make would run, with no variable set by anybody."""
    environment = {name: value for name, value in os.environ.items() if name != "WORKERS"}
    for target in ("test", "coverage", "test-fast", "test-slow"):
        command = ["make", "--no-print-directory", "--dry-run", target]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert " -n auto " in ran.stdout
