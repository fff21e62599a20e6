"""`hooper models fp16`: a version that was published without fp16 arithmetic gets it, as the next version."""

from __future__ import annotations

import sys

from scripts.published_again import Command, publishing

EXAMPLES = """examples:
  hooper models fp16 topics/1 --data dev.csv                      held-out texts, with labels or without
  hooper models fp16 sentiment/1 --recipe scripts/recipes/sentiment.toml
                                                                  the rows that its recipe held out

The next version has the same weights, and beside its graph the form that computes in fp16, for CUDA and TensorRT. It is
published where it decides 99.5 % of the items as the version does in fp32: at most 1,000 of them, drawn, with every result
rounded to fp16 on this processor, since no GPU is needed for it. `hooper train` and `models add` do this by themselves.
"""
COMMAND = Command(
    name="hooper models fp16",
    description="Publish a version again with fp16 arithmetic, for GPUs.",
    examples=EXAMPLES,
    undone="nothing was published",
    act=publishing("fp16"),
)
main, parser = COMMAND.main, COMMAND.parser

if __name__ == "__main__":
    sys.exit(main())
