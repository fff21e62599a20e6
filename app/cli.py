"""`hooper`: thin, every command a call into a module. Offline commands join by entry point: serving never needs them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from app.core.errors import HooperError
from app.settings import Settings, read_settings, settings_table

EXIT_SETUP = 2
PLUGIN_GROUP = "hooper.commands"
EXAMPLES = """examples:
  hooper serve                           answer from the models in ./models on http://127.0.0.1:8000
  hooper serve --device cpu --port 9000  every setting is an option too; see `hooper settings`
  hooper train reviews.csv               fine-tune on labelled text and publish a model
  hooper models                          what is published, and how good it is
  hooper doctor                          what this machine can run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0, or 2 where the command could not start as configured.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    plugins = {one.name: one for one in entry_points(group=PLUGIN_GROUP)}
    if given and given[0] in plugins:
        try:
            command: Callable[[Sequence[str]], int] = plugins[given[0]].load()
        except ImportError as error:
            print(f"hooper {given[0]}: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
            return EXIT_SETUP
        return command(given[1:])
    options = _parser(sorted(plugins)).parse_args(given)
    try:
        result: int = options.run(options)
    except HooperError as error:
        print(f"hooper: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    return result


def _parser(plugins: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hooper", description="Hooper serves BERT.", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = _add(commands, "serve", "answer requests from published models", _serve)
    _add_settings(serve)
    models = _add(commands, "models", "list published models", _models)
    models.add_argument("--json", action="store_true", help="print JSON")
    _add_settings(models, {"models"})
    doctor = _add(commands, "doctor", "say what this machine can run and whether the models are sound", _doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_settings(doctor, {"models", "device", "serve"})
    _add(commands, "settings", "print every setting as a markdown table", lambda _: _print(settings_table()))
    _add(commands, "openapi", "print the OpenAPI file", _openapi)
    for name in plugins:
        commands.add_parser(name, help="fine-tune on labelled text and publish a model" if name == "train" else name)
    return parser


def _add(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _add_settings(parser: argparse.ArgumentParser, only: set[str] | None = None) -> None:
    for name, field in Settings.model_fields.items():
        if only is None or name in only:
            parser.add_argument(
                f"--{name.replace('_', '-')}", dest=name, default=argparse.SUPPRESS, help=field.description, metavar="VALUE"
            )


def _settings(options: argparse.Namespace) -> Settings:
    return read_settings({name: value for name, value in vars(options).items() if name in Settings.model_fields})


def _print(text: str) -> int:
    print(text)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from app.server import serve

    return serve(_settings(options))


def _models(options: argparse.Namespace) -> int:
    from app.serving.repository import Repository

    repository = Repository(_settings(options).models)
    found = [repository.open(name, version).manifest for name in repository.names() for version in repository.versions(name)]
    if options.json:
        return _print(json.dumps([one.model_dump(exclude={"files"}) for one in found], indent=2))
    for one in found:
        figures = ", ".join(f"{key} {value}" for key, value in one.evaluation.items())
        print(f"{one.name}/{one.version}  {one.task}  {figures}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from app.serving.doctor import examine

    findings = examine(_settings(options))
    if options.json:
        print(json.dumps([{"what": one.what, "ok": one.ok, "detail": one.detail} for one in findings], indent=2))
    else:
        width = max(len(one.what) for one in findings)
        for one in findings:
            print(f"{'ok ' if one.ok else 'BAD'}  {one.what:<{width}}  {one.detail}")
    return 0 if all(one.ok for one in findings) else 1


def _openapi(_: argparse.Namespace) -> int:
    from app.main import create_app

    return _print(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
