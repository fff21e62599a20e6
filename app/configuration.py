"""Where settings come from: options, before environment variables, before a TOML file, before the defaults."""

from __future__ import annotations

import difflib
import os
import re
import ssl
import stat
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.core.errors import InvalidSettings
from app.core.manifest import is_path
from app.settings import IS_PATH, IS_SECRET, PREFIX, Settings

CONFIG = PREFIX + "CONFIG"
KEY_SETTINGS = ("api_key_hashes", "admin_key_hashes")
MAX_FILE_BYTES = 1_048_576
"""Of a file of settings or of key hashes; whatever is larger is another file."""
HASH_LINE = re.compile(r"([0-9a-f]{64})(\s+\*?-)?")
"""A hash, also with the sign for standard input behind it, as `sha256sum` prints it."""


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """A setting's value as it was given, and by what."""

    value: Any
    source: str
    """An option, a variable, or the path of a file."""
    is_from_file: bool = False


def read_settings(
    overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None, *, with_keys: bool = True
) -> Settings:
    """Settings from all sources.

    Args:
        overrides: options, by the names of settings.
        environment: by default this process's.
        with_keys: whether files of key hashes are read; what answers nobody needs none, and may not be allowed to read them.

    Raises:
        InvalidSettings: a variable with the prefix or a key of the file is unknown, a value is refused, or a file that
            is named cannot be read.
    """
    settings = validated(sourced_values(overrides, environment))
    return with_key_files(settings) if with_keys else settings


def sourced_values(
    overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, SourcedValue]:
    """Every setting that something other than its default decides, by name.

    Raises:
        InvalidSettings: as for `read_settings`, but for values.
    """
    options = {name: SourcedValue(value, f"--{name.replace('_', '-')}") for name, value in (overrides or {}).items()}
    unknown = [name for name in options if name not in Settings.model_fields]
    if unknown:
        raise InvalidSettings(f"{unknown[0]!r} is not a setting{_nearest(unknown[0])}")
    values = _environment_values(os.environ if environment is None else environment) | options
    config = values.get("config")
    return _file_values(Path(str(config.value))) | values if config and config.value else values


def validated(values: Mapping[str, SourcedValue]) -> Settings:
    """
    Raises:
        InvalidSettings: a value is refused; the sentence names it and where it stands.
    """
    try:
        return Settings(**{name: sourced.value for name, sourced in values.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, message = str(first["loc"][0]), first["msg"]
        if len(first["loc"]) > 1 and isinstance(first["loc"][1], str):  # of `task=name`
            message = f"{first['loc'][1]}: {message}"
        source = values[name]
        where = f"{source.source}: {name}" if source.is_from_file else PREFIX + name.upper()
        if name in KEY_SETTINGS:  # what was given may be the key itself
            raise InvalidSettings(f"{where}: an entry is no SHA-256 of a key in lower-case hex") from None
        shown = "" if _is_marked(name, IS_SECRET) else f"={first['input']!r}"
        raise InvalidSettings(f"{where}{shown}: {message}") from error


def with_key_files(settings: Settings) -> Settings:
    """The settings with the key hashes that their files hold.

    Raises:
        InvalidSettings: a file cannot be used, or hashes are set in both ways.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in KEY_SETTINGS:
        path = getattr(settings, f"{name}_file")
        if path and getattr(settings, name):
            both = f"{PREFIX}{name.upper()} and {PREFIX}{name.upper()}_FILE"
            raise InvalidSettings(f"{both} are both set; keep one of them, so that there is one list of keys")
        if path:
            found[name] = read_key_hashes(Path(path), f"{PREFIX}{name.upper()}_FILE={path}")
    return settings.model_copy(update=found)


def read_key_hashes(path: Path, where: str) -> tuple[str, ...]:
    """The hashes in a file: one a line, or several with commas between; `#` begins a comment.

    Raises:
        InvalidSettings: it cannot be read, others may write to it, or a line holds something else, which is not repeated.
    """
    text = _read_text(path, where)
    hashes: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        for entry in filter(None, (part.strip() for part in line.partition("#")[0].split(","))):
            match = HASH_LINE.fullmatch(entry)
            if match is None:
                raise InvalidSettings(f"{where}, line {number}: this is no SHA-256 of a key in lower-case hex (64 digits)")
            hashes.append(match[1])
    if not hashes:
        raise InvalidSettings(f"{where} holds no hash of a key; leave the setting empty if none is meant")
    if os.name == "posix" and path.stat().st_mode & stat.S_IWOTH:
        raise InvalidSettings(f"{where}: every user may write to this file, and so add a key; run `chmod o-w` on it")
    return tuple(dict.fromkeys(hashes))


def check_tls(settings: Settings) -> None:
    """Read the certificate and its key as uvicorn will: its own errors name no setting, and a key's password it would ask for.

    Raises:
        InvalidSettings: a file cannot be read, is no PEM, is encrypted otherwise, or the two do not belong together.
    """
    cert, key = settings.ssl_certfile, settings.ssl_keyfile
    if not cert:
        if key:
            raise InvalidSettings(f"HOOPER_SSL_KEYFILE={key} is set without HOOPER_SSL_CERTFILE; HTTPS needs both")
        return
    pem = b""
    for name, path in (("HOOPER_SSL_CERTFILE", cert), ("HOOPER_SSL_KEYFILE", key)):
        try:
            pem += Path(path).read_bytes() if path else b""
        except OSError as error:
            raise InvalidSettings(f"{name}={path} cannot be read: {error.strerror}") from None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key or None, lambda: settings.ssl_keyfile_password)
    except (ssl.SSLError, ValueError) as error:
        files = f"HOOPER_SSL_CERTFILE={cert}" + (f", HOOPER_SSL_KEYFILE={key}" if key else "")
        raise InvalidSettings(f"{files}: {_tls_problem(error, b'ENCRYPTED' in pem)}") from None


def _tls_problem(error: Exception, is_encrypted: bool) -> str:
    if isinstance(error, ssl.SSLError) and "MISMATCH" in (error.reason or ""):
        return "the private key does not belong to the certificate"
    if is_encrypted:
        return "the private key is encrypted; HOOPER_SSL_KEYFILE_PASSWORD is missing or wrong"
    return "a certificate with its chain and a private key in PEM are needed"


def shown_value(name: str, value: Any) -> str:
    """A setting's value as a person may see it: of keys their number, of a password that there is one."""
    if name in KEY_SETTINGS:
        return f"{len(value)} SHA-256" if value else ""
    if _is_marked(name, IS_SECRET):
        return "set, not shown" if value else ""
    if isinstance(value, dict):
        return ",".join(f"{key}={entry}" for key, entry in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _environment_values(environment: Mapping[str, str]) -> dict[str, SourcedValue]:
    values = {}
    for variable, value in environment.items():
        name = variable.upper().removeprefix(PREFIX).lower()  # a variable may be written in either case
        if not variable.upper().startswith(PREFIX):
            continue
        if name not in Settings.model_fields:
            raise InvalidSettings(f"{variable} is not a setting{_nearest(name, PREFIX)}")
        values[name] = SourcedValue(value, variable.upper())
    return values


def _file_values(path: Path) -> dict[str, SourcedValue]:
    """What a TOML file sets, each of the kind that TOML has for it, with its paths made absolute."""
    path = path.expanduser().absolute()  # on Ray, processes elsewhere have another working folder
    try:
        entries = tomllib.loads(_read_text(path, f"{CONFIG}={path}"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path} is not valid TOML: {error}") from None
    for name, value in entries.items():
        if name == "config":
            raise InvalidSettings(f"{path}: config stands in the file that it would name; remove it")
        if name not in Settings.model_fields:
            hint = "; settings stand at the top of the file, in no table" if isinstance(value, dict) else _nearest(name)
            raise InvalidSettings(f"{path}: {name!r} is not a setting{hint}")
        _check_kind(path, name, value)
    return {name: SourcedValue(_from_folder(name, value, path.parent), str(path), True) for name, value in entries.items()}


def _check_kind(path: Path, name: str, value: Any) -> None:
    """Refuse what pydantic would quietly convert: `true` for a number, and numbers or dates in lists of words."""
    annotation = Settings.model_fields[name].annotation
    origin = typing.get_origin(annotation)
    if (annotation is bool) != isinstance(value, bool):
        kind = "be true or false, without quotes" if annotation is bool else "not be true or false"
        raise InvalidSettings(f"{path}: {name} must {kind}")
    if origin is tuple and not (isinstance(value, str) or (isinstance(value, list) and _are_strings(value))):
        raise InvalidSettings(f'{path}: {name} must be a list of strings, as ["a", "b"]')
    if origin is dict and not (isinstance(value, str) or (isinstance(value, dict) and _are_strings(value.values()))):
        raise InvalidSettings(f'{path}: {name} must be a table of strings, as {{task = "model"}}')


def _are_strings(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _from_folder(name: str, value: Any, folder: Path) -> Any:
    """A path of the file as seen from anywhere, in `serve` too, where names stand beside paths."""
    if name == "serve":
        references = value.split(",") if isinstance(value, str) else value
        return tuple(_absolute(part.strip(), folder) if is_path(part.strip()) else part for part in references)
    return _absolute(value, folder) if _is_marked(name, IS_PATH) and isinstance(value, str) and value else value


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / Path(path).expanduser())


def _is_marked(name: str, mark: object) -> bool:
    return mark in Settings.model_fields[name].metadata


def _nearest(name: str, prefix: str = "") -> str:
    """The end of a sentence on an unknown name: what may have been meant, and where all of them are."""
    plain = name.lower().replace("-", "_").removeprefix(PREFIX.lower())
    near = difflib.get_close_matches(plain, Settings.model_fields, n=1)
    meant = f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?" if near else ""
    return f"{meant} (`hooper settings` lists all of them)"


def _read_text(path: Path, where: str) -> str:
    """
    Raises:
        InvalidSettings: there is no such file, it may not be read, or it is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidSettings(f"{where} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{where} has more than {MAX_FILE_BYTES} bytes; it is another file")
    try:
        return content.decode("utf-8-sig")  # editors of Windows write a mark at the beginning
    except UnicodeDecodeError:
        raise InvalidSettings(f"{where} is not text in UTF-8") from None
