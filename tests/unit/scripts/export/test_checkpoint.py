"""A checkpoint that somebody else trained is served with as much as it reads, within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from scripts.export.import_checkpoint import open_checkpoint


@pytest.mark.parametrize(("positions", "wish", "limit"), [(64, 0, 64), (1024, 0, 512), (1024, 1024, 1024), (1024, 100, 100)])
def test_without_a_wish_it_reads_what_it_can_up_to_512_tokens(positions: int, wish: int, limit: int, save: Any) -> None:
    folder: Path = save(max_position_embeddings=positions)
    assert open_checkpoint(str(folder), max_tokens=wish).max_tokens == limit


def test_more_than_it_reads_is_refused_with_the_numbers(save: Any) -> None:
    with pytest.raises(InvalidSettings, match="--max-tokens is 65; this model reads between 8 and 64"):
        open_checkpoint(str(save()), max_tokens=65)
