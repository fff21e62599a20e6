"""`hooper openapi`."""

from __future__ import annotations

import argparse
import json

from app.cli.parser import Parser
from app.settings import Settings

EXAMPLES = """  hooper openapi > openapi.json                what the service answers at /openapi.json
"""


def add_options(parser: Parser) -> None:
    """None."""


def run(options: argparse.Namespace) -> int:
    from app.main import create_app

    print(json.dumps(create_app(Settings.model_construct()).openapi(), indent=2, ensure_ascii=False))
    return 0
