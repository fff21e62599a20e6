"""`hooper models measure`: a published version is measured again, and gets another longest input without training."""

from __future__ import annotations

import sys
from pathlib import Path

from app.core.manifest import MANIFEST
from scripts.export.formatting import say
from scripts.published_again import Command
from scripts.training.recipe import Recipe

EXAMPLES = """examples:
  hooper models measure tickets/1 --max-tokens 512                     on built-in texts
  hooper models measure tickets/1 --max-tokens 512 --data dev.csv      on texts of its own kind, with labels or without

Texts are joined until they fill the limit. The published graph must read them in fp32, answer each alike whatever lies beside
it, and give its golden answers. Each other form of it (int8, fp16) must decide 99.5 % of the texts that you give as it does in
fp32; of the built-in ones it must be as exact as on short texts. torch is not asked, and how good the model is on long texts is
not measured. `max_tokens`, `length_parity` and `engines` in the version's manifest.json change, and nothing else: it is the
same version. A running service sees it when it loads it again.
"""


def _act(folder: Path, recipe: Recipe, models: Path) -> str:
    from scripts.export.measure_length import measure_length  # here: what it needs takes seconds to import

    changed = measure_length(folder, recipe, say)
    return f"\n{folder / MANIFEST}: max_tokens {changed.max_tokens}"


COMMAND = Command(
    name="hooper models measure",
    description="Give a published version another longest input, after its graph was run on texts that fill it.",
    examples=EXAMPLES,
    undone="nothing was changed",
    act=_act,
    sets_limit=True,
)
main, parser = COMMAND.main, COMMAND.parser

if __name__ == "__main__":
    sys.exit(main())
