"""Two front ends and an engine side, pair."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ipc_pair import IpcPair


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[IpcPair]:
    made = IpcPair(tmp_path, num_front_ends=2)
    await made.listen()
    yield made
    await made.aclose()
