"""`hooper models add | int8 | fp16 | reference | measure`: what publishes a version without training, or changes one."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.core.archive import copy, is_archive, unpack
from app.core.artefact import STAGING, is_version, next_release
from app.core.errors import HooperError, InvalidSettings, SetupError
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP
from app.core.manifest import MANIFEST
from app.core.types import Precision
from scripts.export.formatting import say
from scripts.tasks import SPECS
from scripts.training.data import default_name
from scripts.training.recipe import Recipe, load_recipe

CHECKPOINT_OPTIONS = ("task", "labels", "data", "max_rows", "storage", "max_tokens", "description", "license", "limits")


@dataclass(frozen=True, slots=True)
class ModelsCommand:
    """One of them: its options, and what it does with them."""

    name: str
    usage: str
    description: str
    examples: str
    when_stopped: str
    """What holds where it ends early."""
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Sequence[str]], str]
    """From the options, and the words that they were read from, to what is printed at the end."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """
        Returns:
            0; 1 where something broke; 2 where it cannot be done; 130 where it was interrupted.
        """
        words = list(sys.argv[1:] if arguments is None else arguments)
        options = self.parser().parse_args(words)
        try:
            print(self.run(options, words))
        except HooperError as error:
            print(f"{self.name}: {error.detail}", file=sys.stderr)
            return EXIT_SETUP
        except KeyboardInterrupt:
            print(f"\n{self.name}: stopped; {self.when_stopped}", file=sys.stderr)
            return EXIT_INTERRUPTED
        except ImportError as error:
            print(f"{self.name}: {error.name} is not installed; run `pip install 'hooper[train]'`", file=sys.stderr)
            return EXIT_SETUP
        except Exception:  # a crash: its cause must be seen
            traceback.print_exc()
            print(f"{self.name}: unexpected, see above; {self.when_stopped}", file=sys.stderr)
            return EXIT_FAILED
        return 0

    def parser(self) -> argparse.ArgumentParser:
        """The options, for completion too."""
        parser = argparse.ArgumentParser(
            prog=self.name,
            usage=f"{self.name} {self.usage} [OPTION ...]",
            description=self.description,
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_options(parser)
        models = os.environ.get("HOOPER_MODELS", "models")
        parser.add_argument("--models", default=models, help="model repository; default: %(default)s")
        return parser


# --- a checkpoint, or a version from elsewhere


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="PATH_OR_HUB_ID", help="checkpoint folder, hub id, published folder or archive")
    parser.add_argument("--name", default="", help="name to publish under; default: the folder's, or the archive's own")
    group = parser.add_argument_group("for checkpoints")
    group.add_argument("--task", choices=tuple(SPECS), help="what its head is for; default: as config.json says")
    group.add_argument("--labels", nargs="+", default=[], metavar="NAME", help="labels in the order of its outputs")
    group.add_argument(
        "--data", nargs="+", default=[], metavar="FILE", help="texts to evaluate it on: csv, tsv, jsonl, txt, parquet"
    )
    group.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
    group.add_argument(
        "--text-pair-column", default="", metavar="NAME", help="column of a second text; default: guessed, or none"
    )
    group.add_argument("--label-column", default="", metavar="NAME", help="column of the label; default: guessed, or none")
    group.add_argument("--max-rows", type=int, default=0, metavar="N", help="use so many rows, drawn at random; 0: all")
    group.add_argument("--max-tokens", type=int, default=0, metavar="N", help="longest input; 0: what it reads, at most 512")
    group.add_argument(
        "--storage",
        choices=("int8", "fp16", "fp32"),
        help="how weights lie on disk; default: int8 where --data is labelled, else fp16, which rounds less",
    )
    group.add_argument("--description", default="", help="one sentence for the model card")
    group.add_argument("--license", default="", help="licence of the weights, for the model card")
    group.add_argument("--limits", default="", help="known limits, for the model card")


def _add(options: argparse.Namespace, words: Sequence[str]) -> str:
    source = Path(options.source).expanduser()
    if is_published(source):
        unusable = [name for name in CHECKPOINT_OPTIONS if getattr(options, name)]
        if unusable:
            raise InvalidSettings(f"--{unusable[0].replace('_', '-')} is for checkpoints; {source} was published before")
        folder = import_artefact(source, Path(options.models), options.name)
    else:
        folder = _import_checkpoint(options, str(source), words)
    name = folder.parent.name
    return f"\n{folder}\nserve it:  hooper serve --model {name}\nask it:    hooper predict --model {name}"


def _import_checkpoint(options: argparse.Namespace, source: str, words: Sequence[str]) -> Path:
    from scripts.export.import_checkpoint import ImportRequest, import_checkpoint  # here: torch takes seconds to import

    names = ("models", "description", "license", "limits", "max_rows", "max_tokens")
    columns = ("text_column", "text_pair_column", "label_column")
    keys: dict[str, Any] = {name: getattr(options, name) for name in (*names, *columns)}
    recipe = Recipe(name=options.name or default_name(source), validation=options.data, **keys)
    command = f"hooper models add {shlex.join(words)}"
    return import_checkpoint(ImportRequest(source, recipe, options.task, options.labels, options.storage, command), say)


def is_published(source: Path) -> bool:
    """Whether this is a version that was published before, and no checkpoint."""
    return is_archive(source) or is_version(source)


def import_artefact(source: Path, models: Path, name: str = "") -> Path:
    """Publish a version of another repository, a folder or an archive, once every file was compared with its manifest.

    Args:
        source: the folder or archive.
        models: the repository.
        name: of the model here; by default as there.

    Returns:
        The version's folder.

    Raises:
        InvalidArtefact: the source is not what its manifest says, or holds what no published version holds.
        SetupError: the repository cannot be written.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=models) as folder:
            checked = Path(folder)
            manifest = unpack(source, checked) if is_archive(source) else copy(source, checked)
            renamed = manifest.model_copy(update={"name": name or manifest.name})
            with next_release(models, renamed.name) as release:
                for file in manifest.files:
                    (checked / file).rename(release.staging / file)
                release.seal(renamed)
            return release.folder
    except OSError as error:
        raise SetupError(f"{models} cannot be written: {error.strerror or error}") from error


ADD = ModelsCommand(
    "hooper models add",
    "PATH_OR_HUB_ID",
    "Publish a checkpoint of transformers, or an exported archive.",
    """examples:
  hooper models add ./my-checkpoint                        a folder that transformers saved, with its head
  hooper models add ./my-checkpoint --data dev.csv         with figures on labelled texts, in its card
  hooper models add org/some-bert --name topics            from the hub, where one can be reached
  hooper models add ./my-checkpoint --labels negative positive
  hooper models add sentiment.tar.gz                       what `hooper export` wrote on another machine

A checkpoint is exported to ONNX, and answers the texts of --data, or built-in ones, through the service's own code; only where
it agrees with PyTorch is it published. Labels and multi-label come from its config.json. Its code is never run, and its weights
are read from safetensors alone.
""",
    "nothing was published",
    _add_options,
    _add,
)


# --- a version that is there already


def _version_options(with_limit: bool) -> Callable[[argparse.ArgumentParser], None]:
    """Options of a command on a version: which, and the items it is compared on; with a limit, built-in ones where none are."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", metavar="NAME/VERSION", help="a version in the model repository, or a folder's path")
        if with_limit:
            parser.add_argument("--max-tokens", type=int, required=True, metavar="N", help="longest input, at most 8192")
        source = parser.add_mutually_exclusive_group(required=not with_limit)
        source.add_argument(
            "--data", nargs="+", default=[], metavar="FILE", help="held-out items: csv, tsv, jsonl, txt, parquet"
        )
        source.add_argument("--recipe", type=Path, metavar="FILE", help="the recipe that the version was trained by")
        parser.add_argument("--text-column", default="", metavar="NAME", help="column of the text; default: guessed")
        parser.add_argument("--max-rows", type=int, default=0, metavar="N", help="take so many rows of --data, drawn; 0: all")

    return add


def _version_and_recipe(options: argparse.Namespace) -> tuple[Path, Recipe]:
    """The version's folder, and the recipe that names the items."""
    from scripts.export.published import find_version  # here, as below: what it needs takes seconds to import

    folder = find_version(options.model, Path(options.models))
    if options.recipe is not None:
        return folder, load_recipe(options.recipe, {})
    return folder, Recipe(validation=options.data, text_column=options.text_column, max_rows=options.max_rows)


def _publish_variant(precision: Precision) -> Callable[[argparse.Namespace, Sequence[str]], str]:
    def run(options: argparse.Namespace, words: Sequence[str]) -> str:
        from scripts.export.published import publish_variant
        from scripts.export.variants import VARIANTS

        folder, recipe = _version_and_recipe(options)
        published = publish_variant(VARIANTS[precision], folder, recipe, Path(options.models), say)
        return f"\n{published}\nserve it:  hooper serve"

    return run


def _reference(options: argparse.Namespace, words: Sequence[str]) -> str:
    from scripts.export.published import add_drift_reference

    folder, recipe = _version_and_recipe(options)
    reference = add_drift_reference(folder, recipe, say)
    figures = reference.model_dump_json(indent=2, exclude={"label_shares"} if not reference.label_shares else set())
    return f"\n{folder / MANIFEST}: reference\n{figures}"


def _measure(options: argparse.Namespace, words: Sequence[str]) -> str:
    from scripts.export.measure_length import measure_length

    folder, recipe = _version_and_recipe(options)
    changed = measure_length(folder, replace(recipe, max_tokens=options.max_tokens), say)
    return f"\n{folder / MANIFEST}: max_tokens {changed.max_tokens}"


ITEMS = "--data FILE ... | --recipe FILE"
INT8 = ModelsCommand(
    "hooper models int8",
    f"NAME/VERSION ({ITEMS})",
    "Publish a version again with int8 arithmetic.",
    """examples:
  hooper models int8 topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models int8 sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                  the rows that its recipe held out

The next version has the same weights, and beside its graph a variant that multiplies int8, which processors with VNNI run twice
as fast. It is published where 99.5 % of its predictions are those of the version in fp32. `hooper train` and `models add` do
this by themselves.
""",
    "nothing was published",
    _version_options(with_limit=False),
    _publish_variant("int8"),
)
FP16 = ModelsCommand(
    "hooper models fp16",
    f"NAME/VERSION ({ITEMS})",
    "Publish a version again with fp16 arithmetic, for GPUs.",
    """examples:
  hooper models fp16 topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models fp16 sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                  the rows that its recipe held out

The next version has the same weights, and beside its graph a variant that computes in fp16, for CUDA and TensorRT. It is
published where 99.5 % of its predictions are those of the version in fp32: on at most 1,000 of the items, drawn, with every
result rounded to fp16 on this processor, since no GPU is needed for it. `hooper train` and `models add` do this by themselves.
""",
    "nothing was published",
    _version_options(with_limit=False),
    _publish_variant("fp16"),
)
REFERENCE = ModelsCommand(
    "hooper models reference",
    f"NAME/VERSION ({ITEMS})",
    "Add what held-out items were like to a published version, for its drift to be compared with.",
    """examples:
  hooper models reference topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models reference sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       the rows that its recipe held out

The published graph answers the items through the service's own code. Only `reference` in the version's manifest.json changes;
graph, tokenizer and card stay as they are, so it is the same version. A running service sees it when it loads it again.
""",
    "nothing was changed",
    _version_options(with_limit=False),
    _reference,
)
MEASURE = ModelsCommand(
    "hooper models measure",
    f"NAME/VERSION --max-tokens N [{ITEMS}]",
    "Give a published version another longest input, after its graph was run on texts that fill it.",
    """examples:
  hooper models measure tickets/1 --max-tokens 512                     on built-in texts
  hooper models measure tickets/1 --max-tokens 512 --data dev.csv      on texts of its own kind, with labels or without

Texts are joined until they fill the limit. The published graph must read them in fp32, answer each alike whatever lies beside
it, and give its golden answers. Of each variant (int8, fp16) 99.5 % of the predictions on the texts that you give must be those
of fp32; on the built-in ones it must be as exact as on short texts. torch is not asked, and how good the model is on long texts
is not measured. `max_tokens`, `length_parity` and `engines` in the version's manifest.json change, and nothing else: it is the
same version. A running service sees it when it loads it again.
""",
    "nothing was changed",
    _version_options(with_limit=True),
    _measure,
)
