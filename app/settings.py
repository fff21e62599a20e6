"""Every setting of the service: type, default, one sentence with its unit. `app.configuration` reads them, once."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from app.core.errors import InvalidSettings
from app.core.manifest import ModelName
from app.core.types import DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_ITEMS

PREFIX = "HOOPER_"
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Words = tuple[str, ...]
Pairs = dict[str, ModelName]
Hashes = tuple[KeyHash, ...]
HostName = Annotated[str, StringConstraints(pattern=r"^(\*|(\*\.)?[^\s/*@]+)$")]
Hosts = tuple[HostName, ...]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^\s/*@]+)$")]
Origins = tuple[Origin, ...]
IS_PATH = object()
"""Marks a setting that is a path: in a file of settings it is relative to the folder of that file."""
PathText = Annotated[str, IS_PATH]
IS_SECRET = object()
"""Marks a setting whose value is never printed."""


class Settings(BaseModel):
    """Settings of `hooper serve`; each is an option, an environment variable with the prefix `HOOPER_`, and a key of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = Field(
        "",
        description="TOML file of settings, by their names without the prefix, as `port = 9000`; options and variables win over"
        " it, and its relative paths begin in its own folder; empty: none is looked for.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    published_host: str = Field(
        "", description="Address under which others reach the port where that is not `host`, as in a container; empty: `host`."
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    models: Annotated[Path, IS_PATH] = Field(Path("models"), description="Folder of the model repository.")
    serve: Words = Field(
        (), description="Models to load, as `name`, `name/version` or a folder's path, separated by commas; empty: all, latest."
    )
    default_models: Pairs = Field(
        {},
        description="Model that answers requests of a task which name none, as `task=name`, separated by commas; it must load."
        " Without it, a task's only model, or the one that was published first.",
    )
    tei_model: Annotated[str, StringConstraints(pattern=r"^[^/]*$")] = Field(
        "",
        description="Model that answers the routes of text-embeddings-inference that its task has (`/info`, `/embed`,"
        " `/rerank`, `/predict`), whose requests name none; empty, and for the others: the default of their task.",
    )
    tasks: Words = Field(
        ("*",),
        description="Installed packages, or tasks that they bring, to take beside the built-in tasks, separated by commas; `*`:"
        " all; empty: none.",
    )
    state: PathText = Field(
        "",
        description="Folder that keeps which version of each model serves after a restart, for a model repository that is"
        " read-only; empty: `serving.json` in each model's folder.",
    )
    device: Literal["auto", "cpu", "openvino", "cuda", "tensorrt"] = Field(
        "auto", description="What to compute on; `auto` takes the best that is there, anything else must be there."
    )
    precision: Literal["auto", "fp32", "int4"] = Field(
        "auto",
        description="Arithmetic of the engine; `auto` takes the fastest in which a model's predictions were measured to agree"
        " with those in fp32; `int4` takes that for models that continue texts and were published with it, others as `auto`.",
    )
    engine_threads: int = Field(0, ge=0, le=1024, description="Threads of the engine; 0: all cores this process may use.")
    engine_streams: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches that a processor computes at the same time where as many rows wait, sharing the engine's threads,"
        " of which each needs one, and with the model's weights in memory once more (once for each where it has several"
        " threads, and through OpenVINO); 1: one after the other, as GPUs do; 0: in int8 as many as threads, where those are"
        " at most 4, else 1.",
    )
    share_weights: bool = Field(
        False,
        description="Whether models whose weights are partly the same, byte for byte, hold these once on ONNX Runtime's CPU"
        " provider, as several heads on one frozen base do. A batch takes longer (docs/how-to/smaller-models.md).",
    )
    cuda_graphs: bool = Field(
        False,
        description="Whether a batch whose tensor shapes were met before is launched as one captured graph; needs the device"
        " `cuda`. Not measured on a GPU yet (docs/how-to/gpu.md).",
    )
    max_batch_tokens: int = Field(1024, ge=16, le=1_048_576, description="Tokens that one batch may cost, padding included.")
    max_batch_rows: int = Field(64, ge=1, le=4096, description="Rows that one batch may hold.")
    cache_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of memory in which a model that writes may keep the keys and values of its sequences: that sets how"
        " many of them, or of their beams, are written at the same time (`max_batch_rows` at most); 0: a quarter of what is"
        " free once the model is loaded. Memory is taken as it is needed.",
    )
    prefix_cache: bool = Field(
        True,
        description="Whether texts to continue that begin alike, as with the same system message, read that beginning once: its"
        " keys and values are kept in rows of the cache that no text needs, up to a quarter of it. Each key has its own.",
    )
    max_waiting_rows: int = Field(2048, ge=1, description="Rows that may wait for a model's engine; more are refused with 429.")
    max_waiting_tokens: int = Field(
        262_144, ge=16, description="Tokens that may wait for a model's engine; more are refused with 429."
    )
    max_items: int = Field(DEFAULT_MAX_ITEMS, ge=1, le=65_536, description="Items that one request may hold.")
    max_answer_bytes: int = Field(
        16_777_216,
        ge=65_536,
        description="Bytes that the answer to one request may have, reckoned before its items are computed: vectors are long"
        " however short a text is; a request for more is refused with 413.",
    )
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
    feedback: PathText = Field(
        "", description="File in which `POST /v1/feedback` keeps corrections, texts included; empty: none are kept."
    )
    feedback_max_bytes: int = Field(
        1_073_741_824, ge=65_536, description="Bytes that the file of corrections may grow to; then they are refused with 503."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log lines to print.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="How log lines are written; `auto`: as text on a terminal, one JSON object a line elsewhere."
    )
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
    api_key_hashes_file: PathText = Field(
        "",
        description="File with these hashes in place of `api_key_hashes`, such as a mounted secret: one a line, `#` begins a"
        " comment; read once, at the start.",
    )
    admin_key_hashes: Hashes = Field(
        (), description="SHA-256 (hex) of each key that may load and unload models, separated by commas; empty: nobody may."
    )
    admin_key_hashes_file: PathText = Field(
        "", description="File with these hashes in place of `admin_key_hashes`, as `api_key_hashes_file`."
    )
    key_requests_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Requests that each key may make per minute, as many at once after a pause, more get 429; 0: any number.",
    )
    key_new_tokens_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Tokens that may be written for each key per minute, those of every beam and of texts nobody waits for any"
        " more included; a text that is begun is finished, the next gets 429; 0: any number.",
    )
    allow_no_keys: bool = Field(
        False, description="Whether to start without API keys where others reach the service: then everybody may call it."
    )
    ssl_certfile: PathText = Field(
        "", description="PEM file of the certificate, with its chain: the port speaks HTTPS then, and no HTTP; empty: HTTP."
    )
    ssl_keyfile: PathText = Field("", description="PEM file of the certificate's private key; empty: it is in `ssl_certfile`.")
    ssl_keyfile_password: Annotated[str, IS_SECRET] = Field(
        "", description="Password of an encrypted private key; empty: it is not encrypted."
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


def check_exposure(settings: Settings) -> None:
    """
    Raises:
        InvalidSettings: others than this machine would reach the service without an API key, and no setting allows that.
    """
    host = settings.published_host or settings.host
    if settings.api_key_hashes or settings.allow_no_keys or is_loopback(host):
        return
    name = PREFIX + ("PUBLISHED_HOST" if settings.published_host else "HOST")
    raise InvalidSettings(
        f"{name}={host} lets others reach the service, and no API key is configured. Set {PREFIX}API_KEY_HASHES to the"
        f" SHA-256 of each key, or {PREFIX}API_KEY_HASHES_FILE to a file of them (docs/how-to/keys.md), or"
        f" {PREFIX}PUBLISHED_HOST=127.0.0.1 if this is a container whose port is published to its own machine alone, or"
        f" {PREFIX}ALLOW_NO_KEYS=true if everybody may call"
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
