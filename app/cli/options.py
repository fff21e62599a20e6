"""Options that commands share: settings, and which model and what kind of input are meant."""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import typer

from app.configuration import read_settings
from app.core.command_line import spread
from app.settings import Settings

_Function = TypeVar("_Function", bound=Callable[..., Any])
COMPUTING = ("models", "state", "device", "precision", "engine_threads", "max_body_bytes")
"""Settings of commands that load a model."""


def with_settings(*names: str) -> Callable[[_Function], _Function]:
    """One option for each of these settings, and `--config`; the function's `settings` are those of all sources.

    Files of key hashes are not read: only what answers callers needs them.
    """
    return spread("settings", setting_options("config", *names), partial(read_settings, with_keys=False))


def setting_options(*names: str) -> dict[str, Any]:
    """Annotations of an option for each of these settings, or for all."""
    fields = Settings.model_fields.items()
    return {name: _setting(name, field) for name, field in fields if not names or name in names}


def _setting(name: str, field: Any) -> Any:
    choices = list(map(str, typing.get_args(field.annotation))) if typing.get_origin(field.annotation) is Literal else []
    return Annotated[
        str | None,
        typer.Option(
            f"--{name.replace('_', '-')}",
            metavar="VALUE",
            help=field.description,
            rich_help_panel="settings",
            autocompletion=lambda: choices,
        ),
    ]


def model_names() -> list[str]:
    """What the shell completes a model's name with: models and versions of the repository that the environment names."""
    try:
        root = read_settings(with_keys=False).models
        folders = (folder for pattern in ("*", "*/*") for folder in root.glob(pattern) if folder.is_dir())
        return sorted(str(folder.relative_to(root)) for folder in folders)
    except Exception:  # a completion never fails: there is nobody to tell
        return []


JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[/VERSION]", autocompletion=model_names, help="a published model, or a published folder's path"
    ),
]
