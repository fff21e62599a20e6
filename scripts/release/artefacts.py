"""The wheel and the source distribution: built, installed where nothing else is, and asked."""

from __future__ import annotations

import json
import os
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import SetupError
from app.core.manifest import MANIFEST, Manifest, read_manifest
from scripts.bench.service import Address, run_program, start_service
from scripts.release.checks import CheckResult, finding
from scripts.release.licences import installed_licences

BUILD, SBOM = "build==1.6.1", "cyclonedx-bom==7.5.0"
NEVER_SERVED = ("torch", "transformers", "optimum", "datasets", "accelerate", "onnx")
OWN_TOOLS = ("pip", "setuptools", "wheel", "hooper")
NOT_IN_WHEEL = ("scripts/peers/", "scripts/reliability/", "scripts/release/", "scripts/bench/results/")


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment of its own."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        venv.create(folder, with_pip=True, clear=True)
        return cls(folder)

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def run(self, program: str, *words: str) -> str:
        """What a program of the environment prints.

        Raises:
            SetupError: it failed.
        """
        # what is on another path would count as installed
        without = {name: "" for name in os.environ if name.startswith("PYTHON")}
        return run_program([self.program(program), *words], f"{program} {' '.join(words)[:80]}", without)

    def install(self, *words: str) -> None:
        self.run("python", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install", *words)

    def licences(self) -> dict[str, str]:
        """Licence by name of every package but Hooper and what every environment has."""
        licences = installed_licences(self.program("python"))
        return {name: licence for name, licence in licences.items() if name not in OWN_TOOLS}


def build(root: Path, folder: Path, tools: Environment) -> list[Path]:
    """Build dist: the source distribution from the checkout, and the wheel from the source distribution."""
    tools.install(BUILD, SBOM)
    tools.run("python", "-m", "build", "--outdir", str(folder), str(root))
    files = sorted(folder.glob("hooper-*"))
    if [file.suffix for file in files] != [".whl", ".gz"]:
        raise SetupError(f"a wheel and a source distribution were to be built, not {[file.name for file in files]}")
    return files


def check_installed(environment: Environment, file: Path, root: Path, serve: str) -> CheckResult:
    """Install one artefact with the extra cpu into an empty environment; every model of the checkout must answer from there."""
    environment.install("--constraint", str(root / "constraints.txt"), f"{file}[cpu]")
    environment.run("python", "-m", "pip", "check")
    settings = {"HOOPER_MODELS": str(root / "models"), "HOOPER_SERVE": serve, "HOOPER_DEVICE": "cpu", "PYTHONPATH": ""}
    command = [str(environment.program("hooper")), "serve"]
    with start_service(settings, lambda _: command, folder=environment.folder) as service:
        models, problems = ask_models(service.address, root / "models")
    strangers = sorted(set(environment.licences()) & set(NEVER_SERVED))
    problems += [f"{name} came along, which serving does not need" for name in strangers]
    if file.suffix == ".whl":
        names = environment.run("python", "-m", "zipfile", "--list", str(file))
        problems += [f"{folder} is in the wheel" for folder in NOT_IN_WHEEL if folder in names]
    what = "wheel" if file.suffix == ".whl" else "sdist"
    return finding(what, problems, f"{file.name}: installed where nothing else is, answers as {', '.join(models)}")


def ask_models(address: Address, models: Path) -> tuple[list[str], list[str]]:
    """Each loaded model gets the first item of its own golden requests: who answered, and what is wrong."""
    models_up, problems = [], []
    for model in address.get("/v1/models")["models"]:
        name, manifest = f"{model['name']}/{model['version']}", read_manifest(models / model["name"] / str(model["version"]))
        golden = (models / name / manifest.golden).read_text(encoding="utf-8")
        item: dict[str, Any] = json.loads(golden)[0]["item"]
        try:
            address.post(f"/models/{model['name']}", {"inputs": item if len(item) > 1 else next(iter(item.values()))})
        except OSError as error:
            problems.append(f"{name} does not answer: {error}")
        else:
            models_up.append(name)
    return models_up, problems if models_up or problems else ["no model is loaded"]


def write_sbom(tools: Environment, served: Environment, root: Path, file: Path) -> CheckResult:
    """A CycloneDX list of the packages that were installed with Hooper, and of the models; checked against its schema."""
    output = tools.run(
        "cyclonedx-py", "environment", "--pyproject", str(root / "pyproject.toml"), "--output-reproducible", "--sv", "1.6",
        str(served.program("python")),
    )  # fmt: skip
    bill = json.loads(output)
    bill["components"] += [model_component(manifest) for manifest in published_manifests(root / "models")]
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    script = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
        "error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read());"
        "print(error or '')"
    )
    problem = tools.run("python", "-c", script, str(file)).strip()
    problems: Sequence[str] = [problem[:200]] if problem else []
    return finding("SBOM", problems, f"{file}: {len(bill['components'])} components, models among them")


def published_manifests(models: Path) -> list[Manifest]:
    return [read_manifest(file.parent) for file in sorted(models.glob(f"*/*/{MANIFEST}"))]


def model_component(manifest: Manifest) -> dict[str, Any]:
    """A shipped model as a component of a CycloneDX list."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.name}/{manifest.version}",
        "name": manifest.name,
        "version": str(manifest.version),
        "description": f"{manifest.description} Fine-tuned from {manifest.base_model}.",
        "licenses": [{"license": {"name": manifest.license}}],
        "hashes": [{"alg": "SHA-256", "content": manifest.files[manifest.graph.file].sha256}],
    }
