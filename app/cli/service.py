"""`hooper serve`, `doctor`, `settings`, `openapi` and `completion`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from app.cli.commands import COMPLETE
from app.cli.options import JsonOption, model_names, setting_options, with_settings
from app.cli.terminal import print_json, print_table
from app.configuration import read_settings, shown_value, sourced_values, validated
from app.core.command_line import program, spread
from app.settings import Settings, settings_table


@program(
    "hooper serve",
    """  hooper serve                                 every model in ./models, on http://127.0.0.1:8000
  hooper serve --model sentiment --model qa/2  these alone
  hooper serve --model ./exported/topics/3     a published folder, wherever it lies
  hooper serve --model ./exported/topics       the latest version in a model's folder
  HOOPER_PORT=9000 hooper serve                each option is an environment variable too
  hooper serve --config hooper.toml            and a key of a file: port = 9000
""",
)
@spread("overrides", setting_options(), dict)
def serve(
    overrides: dict[str, Any],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_PATH", autocompletion=model_names,
            help="serve this model alone: `name`, `name/version` or a folder's path; may be repeated",
        ),
    ] = None,
) -> int:  # fmt: skip
    """Answer requests from published models."""
    from app import server

    if model:
        overrides["serve"] = ",".join(filter(None, [overrides.get("serve", ""), *model]))
    return server.serve(read_settings(overrides))


@program(
    "hooper doctor",
    """  hooper doctor                                what is installed, what the machine offers, which models are sound
  hooper doctor --device cuda                  why there is no GPU, if there is none
  hooper doctor --json | jq '.[] | select(.ok | not)'
""",
)
@with_settings(
    "models", "state", "tasks", "device", "precision", "serve", "host", "engine_threads", "ssl_certfile", "ssl_keyfile",
    "api_key_hashes_file", "admin_key_hashes_file",
)  # fmt: skip
def doctor(settings: Settings, as_json: JsonOption = False) -> int:
    """Say what this machine can run and whether the models are sound."""
    from app.serving.doctor import examine

    findings = examine(settings)
    if as_json:
        print_json([{"what": finding.what, "ok": finding.ok, "detail": finding.detail} for finding in findings])
    else:
        print_table([["ok" if finding.ok else "BAD", finding.what, finding.detail] for finding in findings])
    return 0 if all(finding.ok for finding in findings) else 1


@program(
    "hooper settings",
    """  hooper settings                              variables, defaults, meanings
  HOOPER_PORT=9000 hooper serve                how one is set; or: hooper serve --port 9000
  hooper settings --values                     the value of each here, and where it comes from
  hooper settings --values --config hooper.toml
""",
)
@spread("overrides", setting_options("config"), dict)
def settings(
    overrides: dict[str, Any],
    values: Annotated[bool, typer.Option("--values", help="print the value of each and where it comes from")] = False,
    as_json: JsonOption = False,
) -> int:
    """Print every setting as a markdown table, or the values that hold here."""
    if not (values or as_json or overrides):
        print(settings_table())
        return 0
    sourced = sourced_values(overrides)
    validated_settings = validated(sourced)
    rows = [
        [name, shown_value(name, getattr(validated_settings, name)), sourced[name].source if name in sourced else "default"]
        for name in Settings.model_fields
    ]
    if as_json:
        print_json([dict(zip(("setting", "value", "source"), row, strict=True)) for row in rows])
    else:
        print_table([["setting", "value", "from"], *rows])
    return 0


@program("hooper openapi", "  hooper openapi > openapi.json                what the service answers at /openapi.json\n")
def openapi() -> int:
    """Print the OpenAPI file."""
    from app.main import create_app

    print(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2, ensure_ascii=False))
    return 0


@program(
    "hooper completion",
    """  hooper completion bash > ~/.local/share/bash-completion/completions/hooper
  source <(hooper completion bash)              for this shell alone
  hooper completion zsh > "${fpath[1]}/_hooper"
  hooper completion fish > ~/.config/fish/completions/hooper.fish
""",
)
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="the shell")]) -> int:
    """Print a completion script for bash, zsh or fish."""
    from typer._completion_shared import get_completion_script  # what `--show-completion` prints, which guesses the shell

    print(get_completion_script(prog_name="hooper", complete_var=COMPLETE, shell=shell))
    return 0
