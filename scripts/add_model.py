"""`hooper models add`: a checkpoint of transformers, or a version published elsewhere, becomes a published version here."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.errors import HooperError, InvalidSettings
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from scripts.export.publish import import_artefact, is_published
from scripts.training.data import default_name
from scripts.training.recipe import TASK_NAMES, Recipe

EXAMPLES = """examples:
  hooper models add ./my-checkpoint                        a folder that transformers saved, with its head
  hooper models add ./my-checkpoint --data dev.csv         with figures on labelled texts, in its card
  hooper models add org/some-bert --name topics            from the hub, where one can be reached
  hooper models add ./my-checkpoint --labels negative positive
  hooper models add sentiment.tar.gz                       what `hooper export` wrote on another machine

A checkpoint is exported to ONNX, and answers the texts of --data, or built-in ones, through the service's own code; only where
it agrees with torch is it published. Labels and multi-label come from its config.json. Its code is never run, and its weights
are read from safetensors alone.
"""
ONLY_CHECKPOINTS = ("task", "labels", "data", "max_rows", "storage", "max_tokens", "description", "license", "limits")


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish what is named.

    Returns:
        0; 1 where something broke; 2 where it cannot be published; 130 where it was interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    try:
        return _run(options, given)
    except HooperError as error:
        print(f"hooper models add: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("\nhooper models add: stopped; nothing was published", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ImportError as error:
        print(f"hooper models add: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
        return EXIT_SETUP
    except Exception:  # a crash: its cause must be seen
        traceback.print_exc()
        print("hooper models add: unexpected, see above; nothing was published", file=sys.stderr)
        return EXIT_FAILED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="hooper models add",
        usage="hooper models add PATH_OR_HUB_ID [OPTION ...]",
        description="Publish a checkpoint of transformers, or an exported archive.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("source", metavar="PATH_OR_HUB_ID", help="checkpoint folder, hub id, published folder or archive")
    made.add_argument("--name", default="", help="name to publish under; default: the folder's, or the archive's own")
    made.add_argument("--models", default=os.environ.get("HOOPER_MODELS", "models"), help="model repository to publish into")
    group = made.add_argument_group("for checkpoints")
    group.add_argument("--task", choices=TASK_NAMES, help="what its head is for; default: as config.json says")
    group.add_argument("--labels", nargs="+", default=[], metavar="NAME", help="labels in the order of its outputs")
    group.add_argument(
        "--data", nargs="+", default=[], metavar="FILE", help="texts to judge it on: csv, tsv, jsonl, txt, parquet"
    )
    group.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
    group.add_argument(
        "--text-pair-column", default="", metavar="NAME", help="column of a second text; default: guessed, or none"
    )
    group.add_argument("--label-column", default="", metavar="NAME", help="column of the label; default: guessed, or none")
    group.add_argument("--max-rows", type=int, default=0, metavar="N", help="judge it on so many rows, drawn at random; 0: all")
    group.add_argument("--max-tokens", type=int, default=0, metavar="N", help="longest input; 0: what it reads, at most 512")
    group.add_argument(
        "--storage",
        choices=("int8", "fp16", "fp32"),
        help="how weights lie on disk; default: int8 where --data is labelled, else fp16, which rounds less",
    )
    group.add_argument("--description", default="", help="one sentence for the model card")
    group.add_argument("--license", default="", help="licence of the weights, for the model card")
    group.add_argument("--limits", default="", help="known limits, for the model card")
    return made


def _run(options: argparse.Namespace, given: Sequence[str]) -> int:
    source = Path(options.source).expanduser()
    if is_published(source):
        needless = [name for name in ONLY_CHECKPOINTS if getattr(options, name)]
        if needless:
            raise InvalidSettings(f"--{needless[0].replace('_', '-')} is for checkpoints; {source} was published before")
        folder = import_artefact(source, Path(options.models), options.name)
    else:
        folder = _adopt(options, str(source), given)
    print(f"\n{folder}\nserve it:  hooper serve --model {folder.parent.name}")
    print(f"ask it:    hooper predict --model {folder.parent.name}")
    return 0


def _adopt(options: argparse.Namespace, source: str, given: Sequence[str]) -> Path:
    from scripts.export.import_checkpoint import Wish, adopt, as_command  # here: torch takes seconds to import

    keys: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("models", "description", "license", "limits", "max_rows", "max_tokens")
    }  # fmt: skip
    columns = {name: getattr(options, name) for name in ("text_column", "text_pair_column", "label_column")}
    recipe = Recipe(name=options.name or default_name(source), validation=options.data, **keys, **columns)
    return adopt(Wish(source, recipe, options.task, options.labels, options.storage, as_command(given)), _say)


def _say(arrow: str, text: str) -> None:
    print(f"{arrow:<11}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
