"""`hooper models reference`: a version that was published without a drift reference gets one, counted over held-out items."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from app.core.errors import HooperError, InvalidSettings
from app.core.manifest import MANIFEST
from scripts.offline.recipe import Recipe, load_recipe
from scripts.offline.spoken import say

EXIT_CRASHED, EXIT_SETUP, EXIT_INTERRUPTED = 1, 2, 130
EXAMPLES = """examples:
  hooper models reference topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models reference sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       the rows that its recipe held out

The published graph answers the items through the service's own code. Only `reference` in the version's manifest.json changes;
graph, tokenizer and card stay as they are, so it is the same version. A running service sees it when it loads it again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the reference.

    Returns:
        0; 1 where something broke; 2 where it cannot be added; 130 where it was interrupted.
    """
    try:
        return _run(parser().parse_args(arguments))
    except HooperError as error:
        print(f"hooper models reference: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("\nhooper models reference: stopped; nothing was changed", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ImportError as error:
        print(f"hooper models reference: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
        return EXIT_SETUP
    except Exception:  # a crash: its cause must be seen
        traceback.print_exc()
        print("hooper models reference: unexpected, see above; nothing was changed", file=sys.stderr)
        return EXIT_CRASHED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="hooper models reference",
        usage="hooper models reference NAME/VERSION (--data FILE ... | --recipe FILE) [OPTION ...]",
        description="Add what held-out items were like to a published version, for its drift to be told beside.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("model", metavar="NAME/VERSION", help="a version in the model repository, or a folder's path")
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", nargs="+", default=[], metavar="FILE", help="held-out items: csv, tsv, jsonl, txt, parquet")
    source.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe that the version was trained by")
    made.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
    made.add_argument("--max-rows", type=int, default=0, metavar="N", help="count over so many rows of --data, drawn; 0: all")
    made.add_argument("--models", default=os.environ.get("HOOPER_MODELS", "models"), help="model repository")
    return made


def _run(options: argparse.Namespace) -> int:
    folder = find(options.model, Path(options.models))
    if options.recipe is None:
        recipe = Recipe(validation=options.data, text_column=options.text_column, max_rows=options.max_rows)
    else:
        recipe = load_recipe(options.recipe, {})
    from scripts.offline.referenced import add_reference  # here: what it needs takes seconds to import

    reference = add_reference(folder, recipe, say)
    told = reference.model_dump_json(indent=2, exclude={"label_shares"} if not reference.label_shares else set())
    print(f"\n{folder / MANIFEST}: reference\n{told}")
    return 0


def find(model: str, models: Path) -> Path:
    """
    Raises:
        InvalidSettings: no version is there.
    """
    for folder in (Path(model).expanduser(), models / model):
        if (folder / MANIFEST).is_file():
            return folder
    raise InvalidSettings(f"there is no version {model} in {models}; write NAME/VERSION, or the path of a version's folder")


if __name__ == "__main__":
    sys.exit(main())
