"""What a front end is told of a deployment survives the way there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.core.manifest import read_manifest
from app.ipc.described import Description
from app.runtime.layout import Limits
from app.runtime.providers import Provider


def test_a_description_comes_back_but_for_the_limits_of_tensors(models: Path) -> None:
    provider = Provider("cuda", "fp32", "a GPU answers", captures=True, limits=Limits(512, 1024, 64))
    budget, limit = Budget(1024, 64, "packed"), QueueLimit(1, 2)
    description = Description(read_manifest(models / "tiny" / "1"), provider, ["CUDAExecutionProvider"], 2, budget, limit)
    back = Description.from_json(json.loads(json.dumps(description.to_json())))
    assert back == replace(description, provider=replace(provider, limits=None))
