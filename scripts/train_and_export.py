"""`hooper train`: labelled data in, a verified and published model out."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # for `python scripts/train_and_export.py`
    sys.path.insert(0, str(ROOT))

from app.configuration import read_settings  # noqa: E402
from app.core.command_line import missing_package, program, spread  # noqa: E402
from app.core.errors import HooperError, InvalidSettings, SetupError  # noqa: E402
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP  # noqa: E402
from app.core.manifest import Parity  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.tasks.registry import installed_tasks  # noqa: E402
from scripts.export.formatting import aligned, format_value, metric_name, say, without_option  # noqa: E402
from scripts.training.data import default_name, read_all  # noqa: E402
from scripts.training.recipe import Recipe, load_recipe, recipe_options  # noqa: E402
from scripts.training.run_folder import Interrupted  # noqa: E402

if TYPE_CHECKING:
    from scripts.training.pipeline import Pipeline
    from scripts.training.publication import PublishedModel

RECIPES = ROOT / "scripts" / "recipes"
EXAMPLES = """\
  hooper train reviews.csv                          columns text and label, a fifth held out; published as models/reviews/1
  hooper train train.jsonl.gz --validation dev.jsonl.gz --base-model bert-base-uncased --epochs 3 --name topics
  hooper train --recipe sentiment --resume          resume an interrupted run of scripts/recipes/sentiment.toml
  hooper train reviews.csv --folds 5                five models, each row judged by the one that did not see it; none is kept
"""


def _failed(error: BaseException, words: Sequence[str]) -> int:
    """One sentence, and how to resume: what was trained must not be lost."""
    kept, again = "the last checkpoint is kept; resume with", _command_again(words)
    if any(word.partition("=")[0] == "--folds" for word in words):
        kept, again = "nothing is kept of the folds; start again with", f"hooper train {shlex.join(words)}"
    match error:
        case HooperError():
            print(f"hooper train: {error.detail}", file=sys.stderr)
            return EXIT_SETUP
        case ImportError() if missing := missing_package(error):
            print(f"hooper train: {missing}", file=sys.stderr)
            return EXIT_SETUP
        case Interrupted() | KeyboardInterrupt():
            if checkpoint := getattr(error, "checkpoint", None):
                kept = f"saved as {checkpoint}. Resume with"
            print(f"\nhooper train: stopped; {kept}: {again}", file=sys.stderr)
            return EXIT_INTERRUPTED
        case _:  # a crash: its cause must be seen
            traceback.print_exception(error)
            print(f"hooper train: unexpected, see above; {kept}: {again}", file=sys.stderr)
            return EXIT_FAILED


def _command_again(words: Sequence[str], storage: str = "") -> str:
    """The line that resumes, with another storage where one is named."""
    if storage:
        words = [*without_option(words, "--storage"), "--storage", storage]
    return f"hooper train {shlex.join([*words, *([] if '--resume' in words else ['--resume'])])}"


@program("hooper train", EXAMPLES, _failed)
@spread("overrides", recipe_options(), dict)
def main(
    overrides: dict[str, Any],
    sources: Annotated[list[str] | None, typer.Argument(metavar="[DATA]...", help="training data, as for --data")] = None,
    recipe: Annotated[
        str, typer.Option(metavar="FILE", help="recipe to start from: a TOML file, or its name in scripts/recipes")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="resume the last run of this name")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything that can be checked without training, write nothing")
    ] = False,
    folds: Annotated[
        int,
        typer.Option(
            metavar="K", help="cross-validate: train K models, judge each row by the one that did not see it, publish nothing"
        ),
    ] = 0,
    find_learning_rate: Annotated[
        bool,
        typer.Option("--find-learning-rate", help="try rising learning rates for a minute, plot the loss, suggest one, stop"),
    ] = False,
    plot: Annotated[
        str, typer.Option(metavar="FILE", help="where its plot goes (svg, png or pdf); default: the run folder")
    ] = "",
) -> int:
    """Fine-tune a transformer on labelled data, check it, and publish it as an ONNX model."""
    settings, file = read_recipe(overrides, sources or [], recipe)
    from scripts.export.published import with_version
    from scripts.training.pipeline import Pipeline  # after the options are known to be right: torch takes seconds to import

    # what is repeated later must begin with the same version, whichever serves by then
    settings = replace(settings, base_model=with_version(settings.base_model, Path(settings.models)))
    if folds:
        others = {"--resume": resume, "--find-learning-rate": find_learning_rate}
        return _cross_validate(Pipeline(settings, file, say), folds, dry_run, others)
    if dry_run:
        return _dry_run(settings, file, resume)
    pipeline = Pipeline(settings, file, say)
    return _find_learning_rate(pipeline, plot) if find_learning_rate else _train(pipeline, resume)


def _train(pipeline: Pipeline, resume: bool) -> int:
    try:
        published = pipeline.run(resume)
    except SetupError as error:
        if not pipeline.is_trained:
            raise
        storage = getattr(error, "larger_storage", "")
        again = _command_again(main.command.words, storage)
        advice = "publish it with larger weights" if storage else "resume with"
        raise SetupError(f"{error.detail}. The trained model is kept; {advice}: {again}") from error
    if published is not None:
        _report(published, pipeline.recipe)
    return 0


def _dry_run(recipe: Recipe, file: Path | None, resume: bool) -> int:
    from scripts.training.dry_run import dry_run  # it imports torch

    words = [word for word in main.command.words if word != "--dry-run"]
    return dry_run(recipe, file, resume, f"hooper train {shlex.join(words)}")


def _cross_validate(pipeline: Pipeline, num_folds: int, dry_run: bool, others: Mapping[str, bool]) -> int:
    from scripts.report import page  # they import scikit-learn and torch
    from scripts.training.baselines import unbeaten
    from scripts.training.out_of_fold import PAGE, cross_validate, cut_rows, tables

    for option, is_given in others.items():
        if is_given:
            raise InvalidSettings(f"--folds begins anew and publishes nothing: leave out {option}")
    start = pipeline.find_start()  # first: it says at once where there is none
    prepared, folds = cut_rows(pipeline, read_all(pipeline.recipe), num_folds)
    if dry_run:
        pipeline.say("", "dry run: stopped before training")
        return 0
    report = cross_validate(pipeline, prepared, folds, start)
    written = page.write(report, pipeline.run_folder.path / PAGE)
    for table in tables(report):
        print("", *aligned(table), sep="\n")
    print()
    for sentence in unbeaten(report["baselines"], report.get("metric_names", {})):
        print(f"note:       {sentence}")
    if suspects := report.get("suspects"):
        first = suspects[0]
        print(
            f"labels:     {len(suspects)} rows listed in the report have likely another label, first {first['where']}:"
            f" {first['given']!r} is given, {first['likely']!r} is likely"
        )
    print(f"report:     {written}  # nothing was published; without --folds one model is trained on the training rows")
    return 0


def _find_learning_rate(pipeline: Pipeline, file: str) -> int:
    from scripts.training.learning_rate import check_plot, plot  # they import torch

    picture = Path(file) if file else pipeline.run_folder.path / "learning_rate.svg"
    check_plot(picture)
    start = pipeline.find_start()
    prepared = pipeline.for_base(pipeline.load(read_all(pipeline.recipe)), start)
    curve = pipeline.find_learning_rate(prepared, start)
    pipeline.say("", f"steepest descent at {curve.steepest:.1e}, minimum at {curve.minimum:.1e}")
    pipeline.say("plot", str(plot(curve, picture)))
    pipeline.say("suggest", f"--learning-rate {curve.suggestion:g}")
    return 0


def read_recipe(overrides: dict[str, Any], sources: Sequence[str], name: str) -> tuple[Recipe, Path | None]:
    """The recipe from its file and the options, with a name; and the file.

    Raises:
        InvalidSettings: the file or a key is wrong, or data is named twice.
    """
    if sources:
        if "data" in overrides:
            raise InvalidSettings("name the data either before the options or with --data, not both")
        overrides = {**overrides, "data": list(sources)}
    file = _recipe_file(name) if name else None
    recipe = load_recipe(file, overrides)
    return (recipe if recipe.name else replace(recipe, name=default_name(recipe.data[0]))), file


def _recipe_file(name: str) -> Path:
    """A path, or the short name of a recipe in scripts/recipes."""
    known = RECIPES / f"{name}.toml"
    if Path(name).is_file() or not known.is_file():
        return Path(name)
    return known.relative_to(Path.cwd()) if known.is_relative_to(Path.cwd()) else known


def _report(published: PublishedModel, recipe: Recipe) -> None:
    from scripts.training.baselines import unbeaten  # here: it imports scikit-learn

    folder, headline, succession = published.folder, published.evaluation["headline"], published.succession
    size = sum(path.stat().st_size for path in folder.iterdir())
    names = published.evaluation.get("metric_names", {})
    figures = ", ".join(f"{names.get(key) or metric_name(key)} {format_value(value)}" for key, value in headline.items())
    parity = ", ".join(
        f"{name} {Parity(**entry).agreement_to_show:.4f}" for name, entry in published.evaluation["parity"].items()
    )
    version = f"{recipe.name}/{folder.name}"
    models_option = "" if recipe.models == Recipe().models else f" --models {shlex.quote(recipe.models)}"
    url = f"http://127.0.0.1:{_port()}"
    fields = published.request
    item = fields["text"] if list(fields) == ["text"] else fields  # which every task whose item is a text takes
    body = json.dumps({"model": recipe.name, "inputs": [item]}, ensure_ascii=False)
    request, path = (json.dumps(value, ensure_ascii=False) for value in (item, str(folder)))
    script = f"from hooper import load; print(load({path}).predict([{request}]))"  # strings of JSON are Python's
    print(f"\n{folder}: {figures}; same prediction as PyTorch: {parity}; {size / 1e6:.1f} MB")
    for sentence in unbeaten(published.evaluation.get("baselines", {}), names):
        print(f"note:       {sentence}")
    if published.report:
        print(f"report:     {published.report}  # hooper report {version}{models_option}")
    if not succession.serves:
        print(f"promote it: {succession.promotion(recipe.models)}  # until then {succession.predecessor} serves")
    elif succession.is_lower:
        print(f"go back:    {succession.rollback(recipe.models)}  # on these rows it was better")
    print(f"serve it:   hooper serve{models_option}  # on {url}")
    route = installed_tasks()[recipe.task].route.path
    print(f"ask it:     curl -s {url}/{route} -H 'content-type: application/json' -d {shlex.quote(body)}")
    print(f"in Python:  python -c {shlex.quote(script)}")


def _port() -> int:
    """The port on which the service of this environment listens."""
    try:
        return read_settings(with_keys=False).port
    except (
        HooperError
    ):  # what is wrong with the settings is told when the service starts, and changes nothing of what was trained
        return Settings.model_fields["port"].default  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
