"""What the terminal shows of metrics, cost and parity."""

from __future__ import annotations

import pytest

from scripts.export.formatting import describe_cost, describe_decisions, describe_metrics, format_value, metric_name, say


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("macro_f1", "macro F1"),
        ("lead3_rouge1", "lead-3 ROUGE-1"),
        ("oracle_rouge2", "oracle ROUGE-2"),
        ("exact_match", "exact match"),
    ],
)
def test_metrics_have_the_names_that_people_write(key: str, name: str) -> None:
    assert metric_name(key) == name


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5000"), (71.8, "71.80"), (12345, "12,345"), ("none", "none")])
def test_shares_percentages_and_counts_are_told_apart(value: object, shown: str) -> None:
    assert format_value(value) == shown


def test_a_headline_is_a_sentence() -> None:
    headline = {"accuracy": 0.9123, "macro_f1": 0.9, "rows": 2148}
    assert describe_metrics(headline) == "accuracy 0.9123, macro F1 0.9000, on 2,148 held-out rows"
    assert describe_metrics(headline, {"accuracy": "subset accuracy"}).startswith("subset accuracy 0.9123, macro F1")


def test_what_a_training_cost_and_what_ended_it() -> None:
    cost = {"updates": 1234, "seconds": 90, "loss": 0.5, "epochs": 2.5, "budget": {"asked": "20m"}}
    first, second = describe_cost(cost)
    assert first == "1,234 updates in 1.5 min, mean loss 0.5"
    assert second == "2.5 epochs fitted into a budget of 20m"
    tuned = {"autofit": {"best_loss": 0.1, "rows_set_aside": 1000, "best_update": 200}}
    assert "after 200 updates" in describe_decisions(tuned)[0]


def test_stages_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    say("load", "1 row")
    assert capsys.readouterr().out == "load       1 row\n"
