"""The wheel and the source distribution: built, installed where nothing else is, and asked."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from scripts.bench.service import Address, started_process
from scripts.release.finding import Finding, judged

BUILD, SBOM = "build==1.6.1", "cyclonedx-bom==7.5.0"
ASKED: dict[str, tuple[str, Any]] = {
    "text-classification": ("/v1/classify", "A warm, funny film."),
    "question-answering": ("/v1/answer", {"question": "When did it open?", "context": "The library opened in 1903."}),
    "summarization": ("/v1/summarize", "The hall closed on Tuesday. Its roof could fall. The repair costs four million euros."),
}
NEVER_SERVED = ("torch", "transformers", "optimum", "datasets", "accelerate", "onnx")
OWN_TOOLS = ("pip", "setuptools", "wheel", "hooper")


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment of its own."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Environment:
        venv.create(folder, with_pip=True, clear=True)
        return cls(folder)

    def run(self, program: str, *words: str, at: Path | None = None) -> str:
        """What a program of the environment prints.

        Raises:
            SetupError: it failed.
        """
        # what is on another path would count as installed
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.folder / "bin" / program), *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=at, env=alone)
        if ran.returncode:
            told = (ran.stderr or ran.stdout).strip().splitlines()
            raise SetupError(f"{program} {' '.join(words)[:80]} failed: {' / '.join(told[-3:])}")
        return ran.stdout

    def install(self, *words: str) -> None:
        self.run("python", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install", *words)

    def licences(self) -> dict[str, str]:
        """Licence by name of every package but Hooper and what every environment has."""
        script = (
            "import json; from importlib.metadata import distributions as d; from scripts.release.licences import licence_of;"
            "print(json.dumps({one.metadata['Name']: licence_of(one) for one in d()}))"
        )
        found: dict[str, str] = json.loads(self.run("python", "-c", script, at=self.folder))
        names = {name.lower().replace("_", "-").replace(".", "-"): licence for name, licence in found.items()}
        return dict(sorted((name, licence) for name, licence in names.items() if name not in OWN_TOOLS))


def build(root: Path, folder: Path, tools: Environment) -> list[Path]:
    """Build dist: the source distribution from the checkout, and the wheel from the source distribution."""
    tools.install(BUILD, SBOM)
    tools.run("python", "-m", "build", "--outdir", str(folder), str(root))
    files = sorted(folder.glob("hooper-*"))
    if [one.suffix for one in files] != [".whl", ".gz"]:
        raise SetupError(f"a wheel and a source distribution were to be built, not {[one.name for one in files]}")
    return files


def check_installed(environment: Environment, file: Path, root: Path, serve: str) -> Finding:
    """Install one artefact with the extra cpu into an empty environment; every model of the checkout must answer from there."""
    environment.install("--constraint", str(root / "constraints.txt"), f"{file}[cpu]")
    environment.run("python", "-m", "pip", "check")
    come_along = sorted(set(environment.licences()) & set(NEVER_SERVED))
    settings = {"HOOPER_MODELS": str(root / "models"), "HOOPER_SERVE": serve, "HOOPER_DEVICE": "cpu", "PYTHONPATH": ""}
    with started_process(settings, [str(environment.folder / "bin" / "hooper")], environment.folder) as (address, _):
        answered, problems = _ask(address)
    problems += [f"{name} came along, which serving does not need" for name in come_along]
    what = "wheel" if file.suffix == ".whl" else "sdist"
    return judged(what, problems, f"{file.name}: installed where nothing else is, answers as {', '.join(answered)}")


def _ask(address: Address) -> tuple[list[str], list[str]]:
    """Models that answered, and what is wrong."""
    answered, problems = [], []
    for model in address.get("/v1/models")["models"]:
        route, item = ASKED[model["task"]]
        name = f"{model['name']}/{model['version']}"
        try:
            (result,) = address.post(route, {"model": name, "inputs": item})["results"]
        except OSError as error:
            problems.append(f"{name} does not answer: {error}")
            continue
        answered.append(name)
        if "error" in result:
            problems.append(f"{name} answers {result['error']}")
    return answered, problems if answered or problems else ["no model is loaded"]


def write_sbom(tools: Environment, served: Environment, root: Path, models: Sequence[dict[str, Any]], file: Path) -> Finding:
    """A CycloneDX list of the packages that were installed beside Hooper, and of the models; checked against its schema."""
    made = tools.run(
        "cyclonedx-py", "environment", "--pyproject", str(root / "pyproject.toml"), "--output-reproducible", "--sv", "1.6",
        str(served.folder / "bin" / "python"),
    )  # fmt: skip
    bill = json.loads(made)
    bill["components"] += models
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    script = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
        "error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read());"
        "print(error or '')"
    )
    problem = tools.run("python", "-c", script, str(file)).strip()
    return judged(
        "SBOM", [problem[:200]] if problem else [], f"{file}: {len(bill['components'])} components, models among them"
    )
