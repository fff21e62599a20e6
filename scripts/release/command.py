"""`make release-check`: is what lies here fit to be published?"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_FAILED, EXIT_SETUP
from scripts.release.artefacts import Environment, build, check_installed, write_sbom
from scripts.release.checks import CheckResult, check_version, finding, project_version
from scripts.release.licences import ROOT, check_licences
from scripts.release.scan import archive, check_image, scan, tree


def main(arguments: Sequence[str] | None = None) -> int:
    """Check everything and print each finding.

    Returns:
        0; 1 if something is not fit; 2 if the check could not be made.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.release.command", description=__doc__)
    parser.add_argument("--tag", default="", help="the tag that is being released, such as v0.1.0 (none)")
    parser.add_argument("--serve", default="", metavar="NAMES", help="models that must answer, as HOOPER_SERVE (all)")
    parser.add_argument("--image", default="", help="the container image to look through (hooper:VERSION)")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER", help="where the files are put (dist)")
    is_good = True
    try:
        for result in check(ROOT, parser.parse_args(arguments)):
            print(result, flush=True)
            is_good &= result.ok is not False
    except HooperError as error:
        print(f"release-check: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    return 0 if is_good else EXIT_FAILED


def check(root: Path, options: argparse.Namespace) -> Iterator[CheckResult]:
    """Everything in turn, what is quick first."""
    yield check_version(root, options.tag)
    yield finding("tree", scan(tree(root)), "no secrets, pickles, programs or links, nothing over 60 MB")
    yield check_image(options.image or f"hooper:{project_version(root)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for old in options.output.glob("hooper-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="hooper-release-") as folder:
        tools = Environment.create(Path(folder, "tools"))
        files = build(root, options.output, tools)
        yield finding("archives", [problem for file in files for problem in scan(archive(file))], "as clean as the tree")
        served = [Environment.create(Path(folder, file.suffix[1:])) for file in files]
        for environment, file in zip(served, files, strict=True):
            yield check_installed(environment, file, root, options.serve)
        yield check_licences(root, served[0].licences())
        yield write_sbom(tools, served[0], root, options.output / f"hooper-{project_version(root)}.cdx.json")


if __name__ == "__main__":
    sys.exit(main())
