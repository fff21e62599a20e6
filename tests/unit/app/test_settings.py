"""Settings: every knob is documented, rejects nonsense, and a mistyped one stops the start."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import InvalidSettings
from app.settings import PREFIX, Settings, check_exposure, is_loopback, read_settings, settings_table

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"
HASHES = tuple(hashlib.sha256(key).hexdigest() for key in (b"one", b"two"))


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_PORT", "9000")
    monkeypatch.setenv("HOOPER_MODELS", "/somewhere")
    monkeypatch.setenv("HOOPER_SERVE", "a, b/2,")
    monkeypatch.setenv("HOOPER_API_KEY_HASHES", ",".join(HASHES))
    settings = read_settings()
    assert (settings.port, settings.models, settings.serve) == (9000, Path("/somewhere"), ("a", "b/2"))
    assert settings.api_key_hashes == HASHES


def test_an_option_beats_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_PORT", "9000")
    assert read_settings({"port": "9001"}).port == 9001


@pytest.mark.parametrize("name", ["HOOPER_DEVISE", "HOOPER_", "hooper_devise", "HOOPER_MODEL"])
def test_an_unknown_variable_stops_the_start_and_the_known_ones_are_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(InvalidSettings, match=f"^{name} is not a setting; known are HOOPER_HOST, .*HOOPER_ADMIN_KEY_HASHES"):
        read_settings()


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read_settings(environment={"HOOPERS": "x", "PORT": "1", "HOOPER_PORT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "65536"),
        ("port", "http"),
        ("device", "gpu"),
        ("engine_threads", "-1"),
        ("max_batch_tokens", "15"),
        ("max_batch_rows", "0"),
        ("max_waiting_rows", "0"),
        ("max_waiting_tokens", "0"),
        ("max_items", "0"),
        ("max_body_bytes", "1023"),
        ("receive_s", "0"),
        ("max_connections", "0"),
        ("key_requests_per_minute", "-1"),
        ("allow_no_keys", "perhaps"),
        ("drain_s", "-1"),
        ("drain_s", "nan"),
        ("drain_s", "inf"),
        ("log_level", "loud"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(InvalidSettings) as refused:
        read_settings()
    assert refused.value.detail.startswith(f"HOOPER_{name.upper()}={value!r}: ")
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("name", ["api_key_hashes", "admin_key_hashes"])
def test_a_key_in_the_place_of_its_hash_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), f"{HASHES[0]},my-secret-key")
    with pytest.raises(InvalidSettings, match=f"^{PREFIX}{name.upper()}: ") as refused:
        read_settings()
    assert "my-secret-key" not in refused.value.detail
    assert "SHA-256" in refused.value.detail


def test_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
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
