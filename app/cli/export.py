"""`hooper export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.cli.parser import Parser, add_settings, settings_from
from app.core.archive import SUFFIXES, is_archive, pack
from app.core.errors import SetupError
from app.core.manifest import describe_file
from app.serving.repository import Repository

EXAMPLES = """  hooper export sentiment sentiment.tar.gz      the latest version; the same version gives the same bytes
  hooper export sentiment/1 /mnt/usb/s1.tar.gz --force
  hooper models add /mnt/usb/s1.tar.gz          on the other machine: checked, and published as its next version
"""


def add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="NAME[/VERSION]", help="a published model, or a published folder's path")
    parser.add_argument("file", metavar="FILE.tar.gz", type=Path, help="the archive to write")
    parser.add_argument("--force", action="store_true", help="replace the file where it exists")
    add_settings(parser, ("models",))


def run(options: argparse.Namespace) -> int:
    target: Path = options.file
    if not is_archive(target):
        raise SetupError(f"{target} must end in {' or '.join(SUFFIXES)}")
    if target.exists() and not options.force:
        raise SetupError(f"{target} exists; say --force to replace it")
    artefact = Repository(settings_from(options).models).find(options.model)
    pack(artefact.folder, target)
    written = describe_file(target)
    print(f"{artefact.id} -> {target}, {written.num_bytes / 1e6:.1f} MB, sha256 {written.sha256}")
    return 0
