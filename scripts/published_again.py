"""What commands share that look at a published version once more, over items that it was not trained on."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from app.core.manifest import MANIFEST
from app.core.types import Precision
from scripts.export.formatting import say
from scripts.training.recipe import Recipe, load_recipe


@dataclass(frozen=True, slots=True)
class Command:
    """One of them."""

    name: str
    description: str
    examples: str
    undone: str
    """What holds where it ends early: `nothing was published`."""
    act: Callable[[Path, Recipe, Path], str]
    """From the version's folder, the recipe that names the items, and the model repository to what is printed at the end."""
    sets_limit: bool = False
    """Whether it takes `--max-tokens`, as the recipe's key; then built-in texts do where none are given."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """
        Returns:
            0; 1 where something broke; 2 where it cannot be done; 130 where it was interrupted.
        """
        try:
            print(self._run(self.parser().parse_args(arguments)))
        except HooperError as error:
            print(f"{self.name}: {error.detail}", file=sys.stderr)
            return EXIT_SETUP
        except KeyboardInterrupt:
            print(f"\n{self.name}: stopped; {self.undone}", file=sys.stderr)
            return EXIT_INTERRUPTED
        except ImportError as error:
            print(f"{self.name}: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
            return EXIT_SETUP
        except Exception:  # a crash: its cause must be seen
            traceback.print_exc()
            print(f"{self.name}: unexpected, see above; {self.undone}", file=sys.stderr)
            return EXIT_FAILED
        return 0

    def parser(self) -> argparse.ArgumentParser:
        """The options, for completion too."""
        made = argparse.ArgumentParser(
            prog=self.name,
            usage=f"{self.name} NAME/VERSION {self._usage} [OPTION ...]",
            description=self.description,
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.add_argument("model", metavar="NAME/VERSION", help="a version in the model repository, or a folder's path")
        if self.sets_limit:
            made.add_argument("--max-tokens", type=int, required=True, metavar="N", help="longest input, at most 8192")
        source = made.add_mutually_exclusive_group(required=not self.sets_limit)
        source.add_argument(
            "--data", nargs="+", default=[], metavar="FILE", help="held-out items: csv, tsv, jsonl, txt, parquet"
        )
        source.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe that the version was trained by")
        made.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
        made.add_argument("--max-rows", type=int, default=0, metavar="N", help="take so many rows of --data, drawn; 0: all")
        made.add_argument("--models", default=os.environ.get("HOOPER_MODELS", "models"), help="model repository")
        return made

    @property
    def _usage(self) -> str:
        items = "--data FILE ... | --recipe FILE"
        return f"--max-tokens N [{items}]" if self.sets_limit else f"({items})"

    def _run(self, options: argparse.Namespace) -> str:
        folder = find(options.model, Path(options.models))
        if options.recipe is None:
            recipe = Recipe(validation=options.data, text_column=options.text_column, max_rows=options.max_rows)
        else:
            recipe = load_recipe(options.recipe, {})
        if self.sets_limit:
            recipe = replace(recipe, max_tokens=options.max_tokens)
        return self.act(folder, recipe, Path(options.models))


def publishing(precision: Precision) -> Callable[[Path, Recipe, Path], str]:
    """What a command does that publishes a version again with the form for a precision."""

    def act(folder: Path, recipe: Recipe, models: Path) -> str:
        from scripts.export.add_variant import publish_variant  # here: what it needs takes seconds to import
        from scripts.export.variants import VARIANTS

        made = publish_variant(VARIANTS[precision], folder, recipe, models, say)
        return f"\n{made}\nserve it:  hooper serve"

    return act


def find(model: str, models: Path) -> Path:
    """
    Raises:
        InvalidSettings: no version is there.
    """
    for folder in (Path(model).expanduser(), models / model):
        if (folder / MANIFEST).is_file():
            return folder
    raise InvalidSettings(f"there is no version {model} in {models}; write NAME/VERSION, or the path of a version's folder")
