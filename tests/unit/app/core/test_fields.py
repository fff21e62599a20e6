"""Columns of a file are matched with the fields of a task."""

from __future__ import annotations

import pytest

from app.core.fields import FieldSpec, column_key, match_columns, same_column
from app.tasks.fields import LABEL_COLUMNS, POSSIBLE_LABELS, POSSIBLE_TEXTS, RATING_COLUMNS, TEXT_COLUMNS

FIELDS = {
    "text": FieldSpec(("text", "review", "title", "sentence1")),
    "text_pair": FieldSpec(("text_pair", "sentence2"), required=False, partners=("text", "sentence1")),
}


@pytest.mark.parametrize(
    ("present", "matches"),
    [
        (["id", "review", "text"], {"text": "text"}),
        (["Review "], {"text": "Review "}),
        (["Text", "text"], {"text": "text"}),
        (["title", "sentence1", "sentence2"], {"text": "sentence1", "text_pair": "sentence2"}),
        (["title", "sentence2"], {"text": "title", "text_pair": "sentence2"}),
        (["sentence1"], {"text": "sentence1"}),
        (["a", "b"], {}),
    ],
)
def test_the_likeliest_column_holds_a_field_and_a_pair_stays_together(present: list[str], matches: dict[str, str]) -> None:
    assert match_columns(FIELDS, present) == matches


def test_a_column_that_a_person_names_counts_before_every_guess() -> None:
    present = ["title", "sentence1", "sentence2"]
    assert match_columns(FIELDS, present, {"text": "title", "text_pair": ""}) == {"text": "title", "text_pair": "sentence2"}
    assert match_columns(FIELDS, ["a"], {"text": "b"}) == {"text": "b"}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Star Rating (1-5)", "star_rating"),
        ("CATÉGORIE", "categorie"),
        ("Länge [mm]", "la\u0308nge"),
        ("\ufeffText", "text"),
        (" re-view ", "review"),
    ],
)
def test_case_accents_punctuation_and_units_do_not_count_in_a_name(name: str, other: str) -> None:
    assert column_key(name) == column_key(other)
    assert same_column(other, ["id", name]) == name


def test_of_two_columns_that_are_written_alike_neither_is_meant_by_a_third_spelling() -> None:
    assert same_column("TEXT", ["Text", "text"]) is None
    assert same_column("Text", ["Text", "text"]) == "Text"
    assert column_key("(?)") != column_key("[1]")


TEXT = FieldSpec(TEXT_COLUMNS, possible=POSSIBLE_TEXTS)
LABEL = FieldSpec((*LABEL_COLUMNS, *RATING_COLUMNS), possible=POSSIBLE_LABELS)


@pytest.mark.parametrize(
    ("text", "label", "others"),
    [
        ("Beschreibung", "Kategorie", ["Ticket-Nr.", "Datum"]),
        ("Rueckmeldung", "Sterne (1-5)", ["Kunde"]),
        ("commentaire", "catégorie", ["identifiant"]),
        ("Customer Comment", "department", ["Created", "Customer ID"]),
        ("reviewText", "overall", ["reviewerID", "reviewTime"]),
        ("Kundenkommentar", "Produktkategorie", ["Bestellnummer"]),
        ("Ticket Description", "Ticket Category", ["Ticket ID", "Ticket Subject"]),
        ("Description of the fault", "Topic name", ["text length", "label_id"]),
        ("description", "topic", ["title", "comment_id"]),
        ("texto", "Sentimiento", ["fecha"]),
    ],
)
def test_names_of_other_peoples_exports_are_known(text: str, label: str, others: list[str]) -> None:
    assert match_columns({"text": TEXT, "label": LABEL}, [*others, label, text]) == {"text": text, "label": label}


@pytest.mark.parametrize(
    ("present", "candidates"),
    [
        (["comment", "Beschreibung", "title"], ["comment", "Beschreibung"]),
        (["text", "comment"], ["text"]),
        (["ticket comment", "customer comment"], ["ticket comment", "customer comment"]),
        (["text_id", "context"], []),
    ],
)
def test_where_names_leave_it_open_all_are_named(present: list[str], candidates: list[str]) -> None:
    assert TEXT.candidates(present) == candidates
    assert match_columns({"text": TEXT}, present) == ({"text": candidates[0]} if len(candidates) == 1 else {})
