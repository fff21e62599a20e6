"""A parser that answers a mistake with one sentence, and the options that every command shares."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from app.settings import Settings, read_settings


class Parser(argparse.ArgumentParser):
    """argparse with one sentence and a suggestion in place of the usage."""

    def __init__(self, prog: str, description: str, examples: str = "", **rest: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples.rstrip()}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **rest,
        )

    def format_help(self) -> str:
        self.usage = self._usage()
        return super().format_help()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"{unknown[0]!r} is not known here{self._suggestion(unknown[0])}")
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` tells what there is)\n")

    def _usage(self) -> str:
        """In one line: the options are listed below it anyway."""
        groups: list[Any] = [one for one in self._actions if not one.option_strings]
        words = [f"[{one.metavar} ...]" if one.nargs == "*" else str(one.metavar) for one in groups]
        return " ".join(["%(prog)s", *words, "[OPTION ...]"])

    def _suggestion(self, wish: str) -> str:
        return suggestion(wish.partition("=")[0], self._option_string_actions) if wish.startswith("-") else ""


def suggestion(wish: str, known: Iterable[str]) -> str:
    """`; did you mean 'models'?`, or nothing where nothing is near."""
    near = difflib.get_close_matches(wish, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def add_settings(parser: argparse.ArgumentParser, only: Sequence[str] | None = None) -> None:
    """An option for each setting, or for those named."""
    for name, field in Settings.model_fields.items():
        if only is None or name in only:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                default=argparse.SUPPRESS,
                help=(field.description or "").replace("%", "%%"),
                metavar="VALUE",
            )


def settings_from(options: argparse.Namespace) -> Settings:
    """Settings from the environment, changed by the options that were given.

    Raises:
        InvalidSettings: one of them is unknown or nonsense.
    """
    return read_settings({name: value for name, value in vars(options).items() if name in Settings.model_fields})
