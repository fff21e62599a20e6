"""`hooper feedback remove`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from app.cli.feedback import file_from
from app.cli.parser import Parser, add_settings
from app.core.errors import SetupError
from app.core.feedback import remove

EXAMPLES = """  hooper feedback remove --request-id 0f8b6a0a                 what came with one request
  hooper feedback remove --before 2026-01-01                   what is older
  hooper feedback remove --model sentiment                     what was said of one model
  hooper feedback remove --everything                          all of it; the service may run on
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("--model", metavar="NAME", help="of this model")
    parser.add_argument("--request-id", metavar="ID", help="kept under this request id")
    parser.add_argument("--before", metavar="DATE", help="kept before this day or time (UTC), as 2026-01-31")
    parser.add_argument("--everything", action="store_true", help="all corrections of all models")
    add_settings(parser, ("feedback",))


def run(options: argparse.Namespace) -> int:
    given = [one for one in (options.model, options.request_id, options.before) if one is not None]
    if bool(given) == options.everything:
        raise SetupError("say what is to be removed: --model, --request-id or --before, or else --everything")
    before = None if options.before is None else _time(options.before)
    count = remove(file_from(options), options.model, options.request_id, before)
    print(f"removed {count:,} corrections")
    return 0


def _time(words: str) -> str:
    try:
        found = datetime.fromisoformat(words)
    except ValueError:
        raise SetupError(f"--before {words} is no day or time; write it as 2026-01-31") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()
