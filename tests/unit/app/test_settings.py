"""Settings: every knob is documented, rejects nonsense, and a mistyped one stops the start."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import InvalidSettings
from app.settings import PREFIX, Settings, check_exposure, is_loopback, settings_table

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"
HASHES = tuple(hashlib.sha256(key).hexdigest() for key in (b"one", b"two"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


# --- who reaches it


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_an_address_of_this_machine_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.7", "hooper.example", "localhost.example", "127.0.0.1.example"]
)
def test_an_address_that_others_reach_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        check_exposure(Settings(host=host))
    assert refused.value.detail.startswith(f"HOOPER_HOST={host} lets others reach the service")
    for way_out in ("HOOPER_API_KEY_HASHES", "HOOPER_PUBLISHED_HOST=127.0.0.1", "HOOPER_ALLOW_NO_KEYS=true"):
        assert way_out in refused.value.detail
    check_exposure(Settings(host=host, api_key_hashes=HASHES))
    check_exposure(Settings(host=host, allow_no_keys=True))


def test_an_admin_key_alone_keeps_nobody_from_asking() -> None:
    with pytest.raises(InvalidSettings):
        check_exposure(Settings(host="0.0.0.0", admin_key_hashes=HASHES))


def test_a_container_is_reached_where_its_port_is_published() -> None:
    check_exposure(Settings(host="0.0.0.0", published_host="127.0.0.1"))
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(InvalidSettings, match=r"^HOOPER_PUBLISHED_HOST=10\.0\.0\.1 lets others"):
            check_exposure(Settings(host=host, published_host="10.0.0.1"))


def test_the_document_is_the_table_that_the_command_prints() -> None:
    heading, sentence, *table = [line for line in DOCUMENT.read_text().splitlines() if line]
    assert heading.startswith("# ")
    assert sentence.endswith(".")
    assert "\n".join(table) == settings_table(), "run `make settings`"


def test_every_setting_is_explained_in_a_sentence() -> None:
    fields: dict[str, Any] = Settings.model_fields
    for name, field in fields.items():
        assert f"| `{PREFIX}{name.upper()}` |" in settings_table()
        assert field.description
        assert field.description.endswith(".")
        assert "|" not in field.description


@pytest.mark.parametrize(("suffix", "unit"), [("_s", "Seconds"), ("_bytes", "Bytes"), ("_tokens", "Tokens"), ("_rows", "Rows")])
def test_a_unit_in_the_name_is_the_unit_of_the_sentence(suffix: str, unit: str) -> None:
    for name, field in Settings.model_fields.items():
        if name.endswith(suffix):
            assert str(field.description).startswith(unit)
