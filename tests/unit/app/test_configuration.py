"""Settings are read from options, variables and a file, in this order, and whatever is wrong is one sentence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app import cli
from app.configuration import check_tls, read_key_hashes, read_settings, shown_value, sourced_values, with_key_files
from app.core.errors import InvalidSettings
from app.settings import IS_PATH, PREFIX, Settings
from tests.support.certificates import Certificate

HASHES = tuple(hashlib.sha256(key).hexdigest() for key in (b"one", b"two"))
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of settings, and gives its path."""

    def write_text(*lines: str, name: str = "hooper.toml") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write_text


# --- variables


def test_a_setting_is_read_from_its_variable() -> None:
    environment = {
        "HOOPER_PORT": "9000",
        "HOOPER_MODELS": "/somewhere",
        "HOOPER_SERVE": "a, b/2,",
        "HOOPER_API_KEY_HASHES": ",".join(HASHES),
    }
    settings = read_settings(environment=environment)
    assert (settings.port, settings.models, settings.serve) == (9000, Path("/somewhere"), ("a", "b/2"))
    assert settings.api_key_hashes == HASHES


def test_this_process_has_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("hooper_port", "9000")
    assert read_settings().port == 9000


def test_an_option_beats_a_variable() -> None:
    assert read_settings({"port": "9001"}, {"HOOPER_PORT": "9000"}).port == 9001


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HOOPER_DEVISE", "; did you mean HOOPER_DEVICE?"),
        ("hooper_devise", "; did you mean HOOPER_DEVICE?"),
        ("HOOPER_MODEL", "; did you mean HOOPER_MODELS?"),
        ("HOOPER_", ""),
        ("HOOPER_XYZZY", ""),
    ],
)
def test_an_unknown_variable_stops_the_start_and_the_nearest_is_named(name: str, hint: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        read_settings(environment={name: "x"})
    assert refused.value.detail == f"{name} is not a setting{hint} (`hooper settings` lists all of them)"


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read_settings(environment={"HOOPERS": "x", "PORT": "1"}) == Settings()


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
        ("log_format", "xml"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        read_settings(environment={PREFIX + name.upper(): value})
    assert refused.value.detail.startswith(f"HOOPER_{name.upper()}={value!r}: ")
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("name", ["api_key_hashes", "admin_key_hashes"])
def test_a_key_in_the_place_of_its_hash_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{PREFIX}{name.upper()}: ") as refused:
        read_settings(environment={PREFIX + name.upper(): f"{HASHES[0]},my-secret-key"})
    assert "my-secret-key" not in refused.value.detail
    assert "SHA-256" in refused.value.detail


# --- a file


def test_options_come_before_the_environment_and_that_before_the_file(write: Write) -> None:
    path = write("port = 1", 'device = "cpu"', "drain_s = 3")
    environment = {"HOOPER_CONFIG": str(path), "HOOPER_PORT": "2", "HOOPER_DEVICE": "auto"}
    settings = read_settings({"port": "3"}, environment)
    assert (settings.port, settings.device, settings.drain_s) == (3, "auto", 3.0)
    sources = {name: sourced.source for name, sourced in sourced_values({"port": "3"}, environment).items()}
    assert sources == {"config": "HOOPER_CONFIG", "port": "--port", "device": "HOOPER_DEVICE", "drain_s": str(path)}


def test_the_option_names_another_file_than_the_variable(write: Write) -> None:
    first, second = write("port = 1"), write("port = 2", name="other.toml")
    assert read_settings({"config": str(second)}, {"HOOPER_CONFIG": str(first)}).port == 2


def test_no_file_is_looked_for(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write("port = 1").parent)
    assert read_settings(environment={}).port == Settings().port


def test_every_setting_can_stand_in_the_file(write: Write) -> None:
    def line(name: str, value: object) -> str:
        if isinstance(value, bool | int | float):
            return f"{name} = {str(value).lower()}"
        return f"{name} = {list(value) if isinstance(value, tuple) else {} if isinstance(value, dict) else str(value)!r}"

    names = [name for name in Settings.model_fields if name != "config"]
    path = write(*(line(name, getattr(Settings(models=Path("/models")), name)) for name in names))
    assert read_settings({"config": str(path)}, {}) == Settings(models=Path("/models"), config=str(path))


def test_lists_and_tables_are_those_of_toml_or_as_in_a_variable(write: Write) -> None:
    path = write('tasks = ["a", "b"]', f'api_key_hashes = "{HASHES[0]}, {HASHES[1]}"', "[default_models]", 'qa = "answers"')
    settings = read_settings({"config": str(path)}, {})
    assert (settings.tasks, settings.api_key_hashes, settings.default_models) == (("a", "b"), HASHES, {"qa": "answers"})


def test_relative_paths_begin_in_the_folder_of_the_file(write: Write, tmp_path: Path) -> None:
    path = write(
        'models = "../models"', 'serve = ["sentiment", "qa/1", "./exported/topics"]', 'feedback = "kept.db"', 'state = ""'
    )
    settings = read_settings({"config": os.path.relpath(path)}, {})
    assert settings.models == tmp_path.parent / "models"
    assert settings.serve == ("sentiment", "qa/1", str(tmp_path / "exported" / "topics"))
    assert (settings.feedback, settings.state) == (str(tmp_path / "kept.db"), "")


def test_every_setting_that_is_a_file_or_a_folder_is_a_path() -> None:
    described = {name for name, field in Settings.model_fields.items() if field.description.startswith(("F", "PEM f"))}  # type: ignore[union-attr]
    files = {name for name in described if Settings.model_fields[name].description.split()[0] in {"File", "Folder", "PEM"}}  # type: ignore[union-attr]
    assert {name for name, field in Settings.model_fields.items() if IS_PATH in field.metadata} == files


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["prot = 1"], "'prot' is not a setting; did you mean port?"),
        (["max-items = 1"], "'max-items' is not a setting; did you mean max_items?"),
        (["HOOPER_PORT = 1"], "'HOOPER_PORT' is not a setting; did you mean port?"),
        (["[serving]", "port = 1"], "'serving' is not a setting; settings stand at the top of the file, in no table"),
        (["port = 0"], "port=0: Input should be greater than or equal to 1"),
        (["port = true"], "port must not be true or false"),
        (["port = 2026-01-01"], "port=datetime.date(2026, 1, 1): Input should be a valid integer"),
        (['allow_no_keys = "yes"'], "allow_no_keys must be true or false, without quotes"),
        (["tasks = [1]"], 'tasks must be a list of strings, as ["a", "b"]'),
        (["default_models = 1"], "default_models must be a table of strings"),
        (['default_models = {qa = "A B"}'], "default_models='A B': qa: "),
        (['api_key_hashes = ["my-secret"]'], "api_key_hashes: an entry is no SHA-256 of a key in lower-case hex"),
        (["ssl_keyfile_password = 12345"], "ssl_keyfile_password: Input should be a valid string"),
        (["config = 'a.toml'"], "config stands in the file that it would name; remove it"),
    ],
)
def test_what_is_wrong_in_the_file_is_a_sentence_that_names_it(write: Write, lines: list[str], sentence: str) -> None:
    path = write(*lines)
    with pytest.raises(InvalidSettings) as refused:
        read_settings({"config": str(path)}, {})
    assert refused.value.detail.startswith(f"{path}: {sentence}")
    assert not {"my-secret", "12345"} & set(refused.value.detail.split())


def test_a_file_that_is_no_toml_is_refused_with_its_line(write: Write) -> None:
    path = write("port = 1", "device")
    with pytest.raises(InvalidSettings, match=f"^{path} is not valid TOML: .*line 2"):
        read_settings({"config": str(path)}, {})


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"^HOOPER_CONFIG=.*missing\.toml cannot be read: No such file or directory"):
        read_settings(environment={"HOOPER_CONFIG": str(tmp_path / "missing.toml")})
    with pytest.raises(InvalidSettings, match="cannot be read: Is a directory"):
        read_settings(environment={"HOOPER_CONFIG": str(tmp_path)})


def test_a_mark_that_editors_of_windows_write_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    assert read_settings({"config": str(tmp_path / "a.toml")}, {}).port == 1


def test_each_value_is_listed_with_its_source_and_no_secret(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("port = 1", 'ssl_keyfile_password = "hush"')
    monkeypatch.setenv("HOOPER_API_KEY_HASHES", ",".join(HASHES))
    assert cli.main(["settings", "--values", "--config", str(path)]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert rows["port"] == ["1", str(path)]
    assert rows["api_key_hashes"] == ["2", "SHA-256", "HOOPER_API_KEY_HASHES"]
    assert rows["device"] == ["auto", "default"]
    assert "hush" not in printed
    assert HASHES[0] not in printed
    assert list(rows) == ["setting", *Settings.model_fields]


def test_a_table_is_shown_as_a_variable_is_written() -> None:
    assert shown_value("default_models", {"qa": "a", "ner": "b"}) == "qa=a,ner=b"


# --- files of key hashes


def test_hashes_are_read_from_a_file_one_a_line(write: Write) -> None:
    path = write("# of the team", "", f"{HASHES[0]}  # alice", f"  {HASHES[1]}  -", HASHES[0], name="keys")
    assert read_key_hashes(path, "x") == HASHES
    settings = read_settings(environment={"HOOPER_API_KEY_HASHES_FILE": str(path), "HOOPER_ADMIN_KEY_HASHES_FILE": str(path)})
    assert settings.api_key_hashes == settings.admin_key_hashes == HASHES


def test_the_secret_that_a_variable_was_made_of_can_be_mounted_as_a_file(write: Write) -> None:
    assert read_key_hashes(write(",".join(HASHES), name="keys"), "x") == HASHES


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HASHES[0]}\nmy-secret-key\n", ", line 2: this is no SHA-256 of a key in lower-case hex (64 digits)"),
        (f"# c\n\n{HASHES[0].upper()}", ", line 3: this is no SHA-256 of a key in lower-case hex (64 digits)"),
        (f"{HASHES[0]} {HASHES[1]}", ", line 1: this is no SHA-256 of a key in lower-case hex (64 digits)"),
        ("# nothing yet\n", " holds no hash of a key; leave the setting empty if none is meant"),
        ("", " holds no hash of a key; leave the setting empty if none is meant"),
        (" " * 1_048_577, " has more than 1048576 bytes; it is another file"),
    ],
)
def test_what_is_wrong_in_a_file_of_hashes_is_told_without_what_stands_there(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(InvalidSettings) as refused:
        read_settings(environment={"HOOPER_API_KEY_HASHES_FILE": str(path)})
    assert refused.value.detail == f"HOOPER_API_KEY_HASHES_FILE={path}{sentence}"


def test_a_file_of_hashes_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(InvalidSettings, match="cannot be read: No such file or directory"):
        read_key_hashes(path, "x")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSettings, match="is not text in UTF-8"):
        read_key_hashes(path, "x")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_of_hashes_that_everybody_may_write_to_is_refused(write: Write) -> None:
    path = write(HASHES[0], name="keys")
    path.chmod(0o666)
    with pytest.raises(InvalidSettings, match="every user may write to this file, and so add a key; run `chmod o-w` on it"):
        read_key_hashes(path, "x")
    path.chmod(0o664)
    assert read_key_hashes(path, "x") == HASHES[:1]


def test_hashes_in_both_places_are_refused(write: Write) -> None:
    path = write(HASHES[0], name="keys")
    with pytest.raises(InvalidSettings, match="HOOPER_API_KEY_HASHES and HOOPER_API_KEY_HASHES_FILE are both set; keep one"):
        with_key_files(Settings(api_key_hashes=HASHES[1:], api_key_hashes_file=str(path)))


def test_a_command_that_answers_nobody_reads_no_keys(tmp_path: Path) -> None:
    environment = {"HOOPER_API_KEY_HASHES_FILE": str(tmp_path / "of-root-alone")}
    assert read_settings(environment=environment, with_keys=False).api_key_hashes == ()


# --- what HTTPS needs


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.create(tmp_path_factory.mktemp("tls"))


def test_a_certificate_and_its_key_are_taken(certificate: Certificate) -> None:
    check_tls(Settings())
    check_tls(Settings(ssl_certfile=certificate.chain, ssl_keyfile=certificate.key))
    check_tls(Settings(ssl_certfile=certificate.chain_and_key))
    check_tls(Settings(ssl_certfile=certificate.chain, ssl_keyfile=certificate.encrypted_key, ssl_keyfile_password="hush"))


def test_what_is_wrong_with_a_certificate_or_its_key_is_a_sentence(certificate: Certificate) -> None:
    chain, key = certificate.chain, certificate.key
    for settings, sentence in (
        (Settings(ssl_keyfile=key), f"HOOPER_SSL_KEYFILE={key} is set without HOOPER_SSL_CERTFILE; HTTPS needs both"),
        (Settings(ssl_certfile="/no.pem"), "HOOPER_SSL_CERTFILE=/no.pem cannot be read: No such file or directory"),
        (Settings(ssl_certfile=chain, ssl_keyfile="/no.pem"), "HOOPER_SSL_KEYFILE=/no.pem cannot be read: No such file"),
        (Settings(ssl_certfile=chain, ssl_keyfile=certificate.other_key), "the private key does not belong to the certificate"),
        (Settings(ssl_certfile=chain), "a certificate with its chain and a private key in PEM are needed"),
        (Settings(ssl_certfile=key, ssl_keyfile=key), "a certificate with its chain and a private key in PEM are needed"),
    ):
        with pytest.raises(InvalidSettings, match=sentence):
            check_tls(settings)


@pytest.mark.parametrize("password", ["", "wrong"])
def test_an_encrypted_key_is_never_asked_about_on_the_terminal(certificate: Certificate, password: str) -> None:
    settings = Settings(ssl_certfile=certificate.chain, ssl_keyfile=certificate.encrypted_key, ssl_keyfile_password=password)
    with pytest.raises(InvalidSettings, match="is encrypted; HOOPER_SSL_KEYFILE_PASSWORD is missing or wrong"):
        check_tls(settings)
