"""forms: other ways to compute a graph, each a small file beside it that shares its weights, and how each is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.core.manifest import Graph
from app.core.types import Precision
from scripts.export.fp16 import write_half
from scripts.export.graph_files import weights_file
from scripts.export.int8 import write_integer
from scripts.export.publish import HALF_MODEL, INTEGER_MODEL
from scripts.export.verify import Comparison, Reference

ROUNDED_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Form:
    """One of them."""

    precision: Precision
    file: str
    does: str
    """As in `the form that multiplies int8`."""
    storages: frozenset[str]
    """Those of graphs that can have it."""
    write: Callable[[Path, Path, Graph], bool]
    """From the graph's file, the form's and the graph's manifest entry to whether there is one."""
    measure: Callable[[Reference, Path, Graph], Comparison | None]
    """None: this machine cannot tell."""
    missing: str = ""
    """Why it cannot, as a clause."""
    most_rows: int = 0
    """Held-out examples that it is compared on, drawn where there are more; 0: all."""


def _write_half(source: Path, target: Path, _: Graph) -> bool:
    if weights_file(source) is not None:  # too large to be made in memory as one message
        return False
    write_half(source, target)
    return True


INTEGER = Form(
    "int8",
    INTEGER_MODEL,
    "multiplies int8",
    frozenset({"int8"}),
    write_integer,
    Reference.measure_int8,
    missing="this processor does not multiply int8 exactly",
)
HALF = Form(
    "fp16",
    HALF_MODEL,
    "computes in fp16",
    frozenset({"int8", "fp16", "fp32"}),
    _write_half,
    Reference.measure_fp16,
    most_rows=ROUNDED_ROWS,
)
FORMS: Mapping[Precision, Form] = {one.precision: one for one in (INTEGER, HALF)}
