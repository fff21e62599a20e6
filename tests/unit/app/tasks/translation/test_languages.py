"""Codes of languages, as callers write them and as models do."""

from __future__ import annotations

import pytest

from app.tasks.translation.languages import base_of, name_of, same_language


@pytest.mark.parametrize(
    ("code", "base", "name"),
    [
        ("de", "de", "German"), ("deu_Latn", "de", "German"), ("de_DE", "de", "German"), ("ger", "de", "German"),
        ("pt-BR", "pt", "Portuguese"), ("zho_Hant", "zh", "Chinese"), ("__fr__", "fr", "French"),
        ("tlh", "tlh", "tlh"), ("", "", ""),
    ],
)  # fmt: skip
def test_a_code_has_a_language_with_a_name(code: str, base: str, name: str) -> None:
    assert (base_of(code), name_of(code)) == (base, name)


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ("zho_Hans", "zho_Hans"), ("zho-hans", "zho_Hans"), ("zh", "zho_Hant"), ("zh-TW", None), ("EN", "eng_Latn"),
        ("eng", "eng_Latn"), ("xx", None), ("", None), ("_", None),
    ],
)  # fmt: skip
def test_a_language_is_known_by_any_of_its_codes(code: str, own: str | None) -> None:
    assert same_language(code, ("eng_Latn", "zho_Hant", "zho_Hans")) == own
