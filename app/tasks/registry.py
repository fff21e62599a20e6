"""Which tasks there are: the built-in ones, then those of packages that are installed beside Hooper."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from app.core.correction import Correction
from app.core.errors import InvalidArtefact, InvalidSettings, SetupError
from app.core.manifest import Manifest
from app.tasks.abstractive_summarization.spec import SPEC as ABSTRACTIVE_SUMMARIZATION
from app.tasks.base import Task
from app.tasks.extractive_summarization.spec import SPEC as EXTRACTIVE_SUMMARIZATION
from app.tasks.feature_extraction.spec import SPEC as FEATURE_EXTRACTION
from app.tasks.fill_mask.spec import SPEC as FILL_MASK
from app.tasks.question_answering.spec import SPEC as QUESTION_ANSWERING
from app.tasks.spec import DropInCodec, NativeRoute, TaskSpec, WritingCodec
from app.tasks.text2text_generation.spec import SPEC as TEXT2TEXT_GENERATION
from app.tasks.text_classification.spec import SPEC as TEXT_CLASSIFICATION
from app.tasks.text_generation.spec import SPEC as TEXT_GENERATION
from app.tasks.text_ranking.spec import SPEC as TEXT_RANKING
from app.tasks.text_regression import SPEC as TEXT_REGRESSION
from app.tasks.token_classification.spec import SPEC as TOKEN_CLASSIFICATION
from app.tasks.tokenizer import Tokenizer
from app.tasks.translation.spec import SPEC as TRANSLATION

ENTRY_POINTS = "hooper.tasks"
"""Group of the entry points under which a package names its `TaskSpec`s."""
ALL = "*"
VARIABLE = "HOOPER_TASKS"
"""The setting that says which of them are taken."""
NATIVE_PATH = re.compile(r"v1/[a-z0-9]+(-[a-z0-9]+)*")
"""What a task's own path looks like; so no key, probe or page is where the service does not expect it."""
HOUSE_PATHS = frozenset({"v1/explain", "v1/feedback", "v1/models"})
"""Native paths that serve every task."""
ROOT_PATHS = frozenset({
    "decode", "docs", "generate", "generate_stream", "health", "hooper", "info", "languages", "metrics", "models",
    "openapi.json", "static", "tokenize", "translate", "v1", "v2",
})  # fmt: skip
"""First words of paths that no route of text-embeddings-inference may have."""
OPENAI_PATH = re.compile(r"v1/[a-z]+(/[a-z]+)?")
BUILT_IN = (
    TEXT_CLASSIFICATION,
    TEXT_REGRESSION,
    QUESTION_ANSWERING,
    EXTRACTIVE_SUMMARIZATION,
    TOKEN_CLASSIFICATION,
    TEXT_RANKING,
    FEATURE_EXTRACTION,
    FILL_MASK,
    ABSTRACTIVE_SUMMARIZATION,
    TRANSLATION,
    TEXT_GENERATION,
    TEXT2TEXT_GENERATION,
)
TRAINING_PACKAGES = ("torch", "transformers", "optimum", "datasets")
"""What no task may bring into the service."""


class Tasks(Mapping[str, TaskSpec]):
    """The tasks by their names, in the order in which they were registered.

    Invariant: no two have the same name, and no two routes the same path.
    """

    def __init__(self, specs: Sequence[TaskSpec]) -> None:
        """
        Raises:
            SetupError: a name or a path is taken.
        """
        self._specs: dict[str, TaskSpec] = {}
        self._routes: dict[str, NativeRoute] = {}
        self._serving: dict[str, list[str]] = {}  # every request asks for it
        for spec in specs:
            self._add(spec)

    def __getitem__(self, name: str) -> TaskSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    @property
    def routes(self) -> Sequence[NativeRoute]:
        """The native routes, in order."""
        return list(self._routes.values())

    def serving(self, path: str) -> Sequence[str]:
        """Names of the tasks that answer under a native path, in the order in which their defaults are asked."""
        return self._serving.get(path, ())

    def beside(self, task: str) -> set[str]:
        """The task, and those that answer under one of its native paths: a default of the one may be a model of the other."""
        return {task}.union(*(names for names in self._serving.values() if task in names))

    def check_defaults(self, named: Iterable[str]) -> None:
        """
        Raises:
            InvalidSettings: a default is named for a task that there is none of.
        """
        for task in named:
            if task not in self:
                raise InvalidSettings(f"HOOPER_DEFAULT_MODELS: there is no task {task!r}; there are {', '.join(self)}")

    def find(self, name: str) -> TaskSpec:
        """The task of a manifest.

        Raises:
            InvalidArtefact: there is no such task here.
        """
        spec = self._specs.get(name)
        if spec is None:
            raise InvalidArtefact(f"task {name!r} is not known here; known are {', '.join(self)}")
        return spec

    def training_row(self, correction: Correction) -> dict[str, Any]:
        """The row that `hooper train` reads: the item with the right answer in the columns that the task's data has."""
        codec = self.find(correction.task).correction
        if codec is None:
            raise InvalidArtefact(f"task {correction.task!r} takes no corrections")
        return codec.training_row(correction.item, dict(correction.right))

    def _add(self, spec: TaskSpec) -> None:
        if spec.name in self._specs:
            raise SetupError(
                f"{spec.distribution} brings a task {spec.name!r}, which {self._specs[spec.name].distribution} has"
            )
        for served in spec.routes:
            path = served.route.path
            if NATIVE_PATH.fullmatch(path) is None:
                raise SetupError(f"{spec.distribution} brings a route /{path}; a task's are one word behind /v1/")
            if path in HOUSE_PATHS or self._routes.setdefault(path, served.route) is not served.route:
                raise SetupError(f"{spec.distribution} brings a route /{path}, which is taken")
        self._check_protocols(spec)
        self._specs[spec.name] = spec
        for served in spec.routes:
            self._serving.setdefault(served.route.path, []).append(spec.name)

    def _check_protocols(self, spec: TaskSpec) -> None:
        correction = spec.correction
        for other in self.values():
            if correction is None or other.correction is None or correction.schema is other.correction.schema:
                continue
            if correction.marks & other.correction.marks or not (correction.marks or other.correction.marks):
                raise SetupError(
                    f"{spec.distribution} brings corrections of {spec.name!r} that cannot be told from those of {other.name!r}"
                )
        taken = {route.path: route.request for other in self.values() for route in drop_ins(other)}
        openai = {route.path for route in spec.openai} | {route.path for route in spec.openai_writing}
        for route in drop_ins(spec):
            is_own = route.path in openai and OPENAI_PATH.fullmatch(route.path) and route.path not in HOUSE_PATHS
            if not is_own and route.path.partition("/")[0] in ROOT_PATHS:
                raise SetupError(f"{spec.distribution} brings a route /{route.path}, which is taken")
            if taken.setdefault(route.path, route.request) is not route.request or route.path in self._routes:
                raise SetupError(f"{spec.distribution} brings a route /{route.path}, which is taken")


def drop_ins(spec: TaskSpec) -> Sequence[DropInCodec | WritingCodec]:
    """Routes of other services' own that a task answers."""
    return (*(spec.text_embeddings.routes if spec.text_embeddings else ()), *spec.openai, *spec.openai_writing)


def build_task(tasks: Mapping[str, TaskSpec], manifest: Manifest, tokenizers: Sequence[Tokenizer]) -> Task[Any, Any, Any]:
    """The task of a published model.

    Args:
        tasks: those that there are.
        manifest: of the model.
        tokenizers: of what it reads; then of what it writes, where that is another.

    Raises:
        InvalidArtefact: its options are wrong, or do not fit the tokenizers.
    """
    target = tokenizers[1] if len(tokenizers) > 1 else None
    return tasks[manifest.task].build(tokenizers[0], manifest.task_options, manifest.decoder, target)


@lru_cache
def installed_tasks(plugins: tuple[str, ...] = (ALL,)) -> Tasks:
    """The built-in tasks and those of installed packages.

    Args:
        plugins: distributions or tasks that are taken, beside the built-in ones; `*`: all.

    Raises:
        SetupError: a package's task cannot be imported, is none, imports what only training may, or takes a name or a path
            that is taken; or a name in `plugins` is installed nowhere. A package that is left out is never imported.
    """
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (_distribution(point), point.name))
    selected = [point for point in points if {ALL, _distribution(point), point.name} & set(plugins)]
    names = {name for point in points for name in (_distribution(point), point.name)}
    unknown = [name for name in plugins if name not in (ALL, *names)]
    if unknown:
        raise SetupError(f"{VARIABLE}: no installed package brings tasks under the name {unknown[0]!r}")
    return Tasks([*BUILT_IN, *(_load(point) for point in selected)])


def environment_tasks() -> Tasks:
    """The same, by the environment alone: for options of commands, which exist before settings are read, and offline.

    Raises:
        SetupError: as for `installed_tasks`.
    """
    setting = next((value for name, value in os.environ.items() if name.upper() == VARIABLE), ALL)
    return installed_tasks(tuple(filter(None, (part.strip() for part in setting.split(",")))))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def _load(point: EntryPoint) -> TaskSpec:
    name = _distribution(point)
    before = {package for package in TRAINING_PACKAGES if package in sys.modules}
    try:
        spec = point.load()
    except (Exception, SystemExit) as error:  # whatever its import does, the start ends with one sentence that names it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SetupError(
            f"{name}: its task {point.name!r} cannot be imported ({reason}); {VARIABLE} can leave it out"
        ) from error
    if not isinstance(spec, TaskSpec):
        raise SetupError(f"{name}: {point.value} is no TaskSpec but a {type(spec).__name__}")
    if spec.name != point.name:
        raise SetupError(f"{name}: its entry point {point.name!r} gives a task of another name, {spec.name!r}")
    imported = [package for package in TRAINING_PACKAGES if package in sys.modules and package not in before]
    if imported:
        raise SetupError(f"{name}: its task {point.name!r} imports {imported[0]}, which only its training half may")
    return replace(spec, distribution=name)
