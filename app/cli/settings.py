"""`hooper settings`."""

from __future__ import annotations

import argparse

from app.cli.parser import Parser
from app.settings import settings_table

EXAMPLES = """  hooper settings                              variables, defaults, meanings
  HOOPER_PORT=9000 hooper serve                how one is set; or: hooper serve --port 9000
"""


def add_options(parser: Parser) -> None:
    """None."""


def run(options: argparse.Namespace) -> int:
    print(settings_table())
    return 0
