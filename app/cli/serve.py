"""`hooper serve`."""

from __future__ import annotations

import argparse

from app.cli.parser import Parser, add_settings, settings_from

EXAMPLES = """  hooper serve                                 every model in ./models, on http://127.0.0.1:8000
  hooper serve --model sentiment --model qa/1  these alone
  hooper serve --model ./exported/topics/3     a published folder, wherever it lies
  hooper serve --model ./exported/topics       the latest version in a model's folder
  HOOPER_PORT=9000 hooper serve                each option is an environment variable too
"""


def add_options(parser: Parser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME_OR_PATH",
        help="serve this model alone: `name`, `name/version` or a folder's path; may be repeated",
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    from app.server import serve

    if options.model:
        options.serve = ",".join(filter(None, [getattr(options, "serve", ""), *options.model]))
    return serve(settings_from(options))
