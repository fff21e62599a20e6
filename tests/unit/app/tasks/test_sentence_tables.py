"""The tables of corrections to `sentencex` contradict neither themselves nor one another's form."""

from __future__ import annotations

from dataclasses import fields

import pytest

from app.tasks.sentence_tables import TABLES, Table

LANGUAGES = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))


@LANGUAGES
def test_an_entry_is_written_without_its_full_stop(table: Table) -> None:
    words = [getattr(table, field.name) for field in fields(table) if field.name not in ("has_ordinals", "starters")]
    assert [word for entries in words for word in entries if word.endswith(".") or not word.strip()] == []


@LANGUAGES
def test_a_pair_is_two_words(table: Table) -> None:
    assert {len(pair.split(". ")) for pair in table.title_pairs | table.joining_pairs} <= {2}


@LANGUAGES
def test_a_word_after_which_no_sentence_ends_is_none_after_which_one_does(table: Table) -> None:
    assert table.titles & (table.ending | table.words | table.joining) == set()
    assert table.title_pairs & table.joining_pairs == set()


@LANGUAGES
def test_the_entries_are_all_words_that_it_says_something_about(table: Table) -> None:
    assert table.titles | table.joining | table.numbered | table.ending | table.words <= table.entries
    assert all(half in table.entries for pair in table.title_pairs for half in pair.split(". "))
