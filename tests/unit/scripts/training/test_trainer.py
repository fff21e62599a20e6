"""The learning rate rises, and then falls as the recipe says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scripts.training.recipe import Recipe
from scripts.training.trainer import make_schedule, warmup_updates

UPDATES = 100


def rates(**values: Any) -> list[float]:
    """The rate of each update."""
    recipe = Recipe(data=["x"], learning_rate=1.0, **values)
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
    schedule = make_schedule(recipe, UPDATES)(optimizer)
    found = []
    for _ in range(UPDATES):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one-cycle", "constant"])
def test_the_rate_rises_to_its_peak_and_never_above(schedule: str) -> None:
    found = rates(schedule=schedule, warmup_share=0.1)
    assert max(found) == pytest.approx(1.0, abs=1e-3)
    assert found[:10] == sorted(found[:10])
    assert found[0] < 0.1
    assert found[10:] == sorted(found[10:], reverse=True)


@pytest.mark.parametrize(("schedule", "middle", "last"), [("linear", 0.5, 0.01), ("cosine", 0.5, 0.0003), ("constant", 1, 1)])
def test_each_schedule_falls_in_its_own_way(schedule: str, middle: float, last: float) -> None:
    found = rates(schedule=schedule, warmup_share=0)
    assert found[50] == pytest.approx(middle, abs=0.01)
    assert found[-1] == pytest.approx(last, abs=0.002)


def test_a_cosine_holds_the_rate_longer_than_a_line() -> None:
    assert rates(schedule="cosine", warmup_share=0)[25] > rates(schedule="linear", warmup_share=0)[25] + 0.05


def test_one_cycle_moves_the_momentum_against_the_rate() -> None:
    recipe = Recipe(data=["x"], learning_rate=1.0, schedule="one-cycle")
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
    schedule = make_schedule(recipe, UPDATES)(optimizer)
    momenta = []
    for _ in range(UPDATES):
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        schedule.step()
    assert momenta[30] == pytest.approx(0.85, abs=0.001)
    assert momenta[0] == pytest.approx(0.95)
    assert momenta[-1] == pytest.approx(0.95, abs=0.001)


@pytest.mark.parametrize(("values", "updates"), [({}, 6), ({"schedule": "one-cycle"}, 30), ({"warmup_share": 0.5}, 50)])
def test_the_warm_up_is_short_but_in_one_cycle(values: dict[str, Any], updates: int) -> None:
    assert warmup_updates(Recipe(data=["x"], **values), UPDATES) == updates
    assert int(torch.tensor(rates(**values)).argmax()) == pytest.approx(updates, abs=1)
