"""Hard negatives: a question beside a context that is near it and does not answer it."""

from __future__ import annotations

from app.tasks.question_answering.task import QuestionItem
from scripts.tasks.question_answering.answers import Gold, unanswered
from scripts.training.data import Example

TOWNS = ("Berlin", "Paris", "Rome", "Oslo")


def examples() -> list[Example]:
    found = []
    for town in TOWNS:
        for river, year in (("north", 1900), ("south", 1950)):
            context = f"The {river} bridge of {town} crosses the river. It was built in {year}{len(town)}."
            start = context.index(str(year))
            gold = Gold(f"{year}{len(town)}", start, start + 5)
            found.append(
                Example(QuestionItem(f"When was the {river} bridge of {town} built?", context), (gold,), "s", f"s:{town}")
            )
    return found


def test_the_context_is_another_one_that_lacks_every_answer() -> None:
    given = examples()
    made = unanswered(given, 1.0, seed=0)
    assert len(made) == len(given)
    for entry in made:
        (original,) = [old for old in given if old.item.question == entry.item.question]
        assert entry.target == ()
        assert entry.item.context != original.item.context
        assert entry.item.context in {old.item.context for old in given}
        assert original.target[0].text not in entry.item.context


def test_as_many_are_made_as_wished_and_the_seed_repeats_them() -> None:
    given = examples()
    assert len(unanswered(given, 0.25, seed=1)) == 2
    assert unanswered(given, 0.0, seed=1) == []
    assert unanswered(given, 0.5, seed=1) == unanswered(given, 0.5, seed=1)


def test_one_context_alone_makes_none() -> None:
    assert unanswered(examples()[:1], 1.0, seed=0) == []


def test_contexts_of_stop_words_make_none() -> None:
    item = [Example(QuestionItem("who?", text), (), "s", "s:1") for text in ("the", "and")]
    assert unanswered(item, 1.0, seed=0) == []
