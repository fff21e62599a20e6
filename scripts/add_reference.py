"""`hooper models reference`: a version that was published without a drift reference gets one, counted over held-out items."""

from __future__ import annotations

import sys
from pathlib import Path

from app.core.manifest import MANIFEST
from scripts.export.formatting import say
from scripts.published_again import Command
from scripts.training.recipe import Recipe

EXAMPLES = """examples:
  hooper models reference topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models reference sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                       the rows that its recipe held out

The published graph answers the items through the service's own code. Only `reference` in the version's manifest.json changes;
graph, tokenizer and card stay as they are, so it is the same version. A running service sees it when it loads it again.
"""


def _act(folder: Path, recipe: Recipe, models: Path) -> str:
    from scripts.export.add_drift_reference import add_reference  # here: what it needs takes seconds to import

    reference = add_reference(folder, recipe, say)
    told = reference.model_dump_json(indent=2, exclude={"label_shares"} if not reference.label_shares else set())
    return f"\n{folder / MANIFEST}: reference\n{told}"


COMMAND = Command(
    name="hooper models reference",
    description="Add what held-out items were like to a published version, for its drift to be told beside.",
    examples=EXAMPLES,
    undone="nothing was changed",
    act=_act,
)
main, parser = COMMAND.main, COMMAND.parser

if __name__ == "__main__":
    sys.exit(main())
