"""Every knob of the service: type, default, one sentence with its unit. Read once, frozen, passed down by hand."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.errors import InvalidSettings
from app.core.manifest import ModelName
from app.core.types import DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_ITEMS

PREFIX = "HOOPER_"
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[tuple[str, ...], NoDecode]
Pairs = Annotated[dict[str, ModelName], NoDecode]
Hashes = Annotated[tuple[KeyHash, ...], NoDecode]
HostName = Annotated[str, StringConstraints(pattern=r"^(\*|(\*\.)?[^\s/*@]+)$")]
Hosts = Annotated[tuple[HostName, ...], NoDecode]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^\s/*@]+)$")]
Origins = Annotated[tuple[Origin, ...], NoDecode]


class Settings(BaseSettings):
    """Settings of `hooper serve`; each is an environment variable with the prefix `HOOPER_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    published_host: str = Field(
        "", description="Address under which others reach the port where that is not `host`, as in a container; empty: `host`."
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    models: Path = Field(Path("models"), description="Folder of the model repository.")
    serve: Words = Field(
        (), description="Models to load, as `name`, `name/version` or a folder's path, separated by commas; empty: all, latest."
    )
    default_models: Pairs = Field(
        {},
        description="Model that answers requests of a task which name none, as `task=name`, separated by commas; it must load."
        " Without it, a task's only model, or the one that was published first.",
    )
    tasks: Words = Field(
        ("*",),
        description="Installed packages, or tasks that they bring, to take beside the built-in tasks, separated by commas; `*`:"
        " all; empty: none.",
    )
    state: str = Field(
        "",
        description="Folder that keeps which version of each model serves after a restart, for a model repository that is"
        " read-only; empty: `serving.json` in each model's folder.",
    )
    device: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = Field(
        "auto", description="What to compute on; `auto` takes the best that is there, anything else must be there."
    )
    precision: Literal["auto", "fp32"] = Field(
        "auto", description="Arithmetic of the engine; `auto` takes the fastest in which a model has shown to decide alike."
    )
    engine_threads: int = Field(0, ge=0, le=1024, description="Threads of the engine; 0: all cores this process may use.")
    engine_streams: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches that ONNX Runtime's CPU provider computes at the same time where as many rows wait, sharing the"
        " engine's threads, of which each needs one, and with the model's weights in memory once more (once for each where it"
        " has several threads); 1: one after the other, as other devices do; 0: in int8 as many as threads, where those are at"
        " most 4, else 1.",
    )
    cuda_graphs: bool = Field(
        False,
        description="Whether a batch whose tensor shapes were met before is launched as one captured graph; needs the device"
        " `cuda`. Not measured on a GPU yet (docs/how-to/gpu.md).",
    )
    max_batch_tokens: int = Field(1024, ge=16, le=1_048_576, description="Tokens that one batch may cost, padding included.")
    max_batch_rows: int = Field(64, ge=1, le=4096, description="Rows that one batch may hold.")
    max_waiting_rows: int = Field(
        2048, ge=1, description="Rows that may wait for a model's engine; more are turned away with 429."
    )
    max_waiting_tokens: int = Field(
        262_144, ge=16, description="Tokens that may wait for a model's engine; more are turned away with 429."
    )
    max_items: int = Field(DEFAULT_MAX_ITEMS, ge=1, le=65_536, description="Items that one request may hold.")
    max_body_bytes: int = Field(DEFAULT_MAX_BODY_BYTES, ge=1024, description="Bytes that a request's body may have.")
    max_held_body_bytes: int = Field(
        268_435_456,
        ge=1024,
        description="Bytes that the bodies of all requests together may have in one process, from their first byte to their"
        " answer; whoever has no room beside the others gets 429. One body of `max_body_bytes` always has.",
    )
    receive_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds that a client gets to send a request's head, then its body, and to take the answer off the line.",
    )
    max_connections: int = Field(
        900, ge=1, le=65_536, description="Connections that may be open at once; more are closed unanswered."
    )
    front_ends: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes that answer HTTP and tokenize in front of one engine process; 1: one process does it all."
        " More pay only where one does not keep the engine busy (docs/how-to/many-cores.md).",
    )
    drain_s: float = Field(
        20.0, ge=0, le=3600, description="Seconds that accepted requests get to finish when the service stops."
    )
    engine_run_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds that one batch may take in the engine (ten times as many on TensorRT, which compiles); then its"
        " requests get 503, and an engine that does not stop is replaced.",
    )
    engine_replacements: int = Field(
        3,
        ge=0,
        le=1000,
        description="Stuck or dead engines that one process replaces; at one more `/health/live` fails, to have it restarted.",
    )
    feedback: str = Field(
        "", description="File in which `POST /v1/feedback` keeps corrections, texts included; empty: none are kept."
    )
    feedback_max_bytes: int = Field(
        1_073_741_824, ge=65_536, description="Bytes that the file of corrections may grow to; then they are refused with 503."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log lines to print.")
    traces_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/?#\s]+\S*)?$",
        description="OTLP/HTTP address of a collector that gets a trace of every request to a model, such as"
        " `http://127.0.0.1:4318`; empty: no traces. Needs the extra `tracing`.",
    )
    root_path: str = Field("", description="Path prefix under which a proxy publishes the service, such as `/hooper`.")
    allowed_hosts: Hosts = Field(
        (),
        description="Names under which the service is asked, as they come in `Host`, separated by commas; `*.` before a name:"
        " its subdomains; `*`: any; empty: `localhost`, `127.0.0.0/8` and `[::1]` where only this machine reaches it, else any."
        " `/health/*` and `/metrics` are answered under any name.",
    )
    cors_origins: Origins = Field(
        (),
        description="Origins of web pages that may ask the service, such as `https://app.example`, separated by commas;"
        " `*`: all; empty: its own alone.",
    )
    api_key_hashes: Hashes = Field(
        (), description="SHA-256 (hex) of each key that may call the service, separated by commas; empty: no key is needed."
    )
    admin_key_hashes: Hashes = Field(
        (), description="SHA-256 (hex) of each key that may load and unload models, separated by commas; empty: nobody may."
    )

    key_requests_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests that each key may make per minute, as many at once after a pause, more get 429; 0: any number.",
    )
    allow_no_keys: bool = Field(
        False, description="Whether to start without API keys where others reach the service: then everybody may call it."
    )

    @field_validator("default_models", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        names = {task.strip(): name.strip() for task, _, name in pairs}
        if len(names) < len(pairs) or not all(equals for _, equals, _ in pairs):
            raise ValueError("write `task=name`, each task once, separated by commas")
        return names

    @field_validator("serve", "tasks", "allowed_hosts", "cors_origins", "api_key_hashes", "admin_key_hashes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


def read_settings(overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment, changed by the overrides.

    Raises:
        InvalidSettings: a variable with the prefix is unknown (pydantic-settings lets those pass), or a value is nonsense.
    """
    for name in environment if environment is not None else os.environ:
        upper = name.upper()  # pydantic-settings reads variables in either case
        if upper.startswith(PREFIX) and upper.removeprefix(PREFIX).lower() not in Settings.model_fields:
            known = ", ".join(PREFIX + field.upper() for field in Settings.model_fields)
            raise InvalidSettings(f"{name} is not a setting; known are {known}")
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if len(first["loc"]) > 1 and isinstance(first["loc"][1], str):  # of `task=name`
            first["msg"] = f"{first['loc'][1]}: {first['msg']}"
        name = PREFIX + str(first["loc"][0]).upper()
        if name.endswith("_HASHES"):  # what was given may be the key itself
            raise InvalidSettings(f"{name}: an entry is no SHA-256 of a key in lower-case hex") from None
        raise InvalidSettings(f"{name}={first['input']!r}: {first['msg']}") from error


def check_exposure(settings: Settings) -> None:
    """
    Raises:
        InvalidSettings: others than this machine would reach the service, it asks nobody for a key, and that was not said.
    """
    host = settings.published_host or settings.host
    if settings.api_key_hashes or settings.allow_no_keys or is_loopback(host):
        return
    name = PREFIX + ("PUBLISHED_HOST" if settings.published_host else "HOST")
    raise InvalidSettings(
        f"{name}={host} lets others reach the service, and it would ask nobody for a key. Set {PREFIX}API_KEY_HASHES to the"
        f" SHA-256 of each key (docs/how-to/keys.md), or {PREFIX}PUBLISHED_HOST=127.0.0.1 if this is a container whose port is"
        f" published to its own machine alone, or {PREFIX}ALLOW_NO_KEYS=true if everybody may call"
    )


@lru_cache(maxsize=16)  # each request's `Host` is asked for; few, since callers write it
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than `localhost` is not looked up: it may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def settings_table() -> str:
    """The settings as a markdown table: docs/settings.md is made of it."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple | dict) else field.default
        lines.append(f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if str(default) else 'empty'} | {field.description} |")
    return "\n".join(lines)
