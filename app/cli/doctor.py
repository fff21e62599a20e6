"""`hooper doctor`."""

from __future__ import annotations

import argparse

from app.cli.output import print_json, print_table
from app.cli.parser import Parser, add_settings, settings_from

EXAMPLES = """  hooper doctor                                what is installed, what the machine offers, which models are sound
  hooper doctor --device cuda                  why there is no GPU, if there is none
  hooper doctor --json | jq '.[] | select(.ok | not)'
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, ("models", "state", "device", "precision", "serve", "host", "engine_threads"))


def run(options: argparse.Namespace) -> int:
    from app.serving.doctor import examine

    findings = examine(settings_from(options))
    if options.json:
        print_json([{"what": one.what, "ok": one.ok, "detail": one.detail} for one in findings])
    else:
        print_table([["ok" if one.ok else "BAD", one.what, one.detail] for one in findings])
    return 0 if all(one.ok for one in findings) else 1
