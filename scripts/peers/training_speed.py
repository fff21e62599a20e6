"""How fast `hooper train` learns in bf16, in fp32, and transformers' Trainer as it comes, on the same texts.

python -m scripts.peers.training_speed --output scripts/peers/results/training.json

Each way trains one epoch in a process of its own, since torch's settings and the memory allocator's are a process's; the ways
take turns, so that a machine that gets busier does so for all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from app.tasks.tokenizer import Tokenizer
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import run_module
from scripts.bench.texts import profile_texts
from scripts.export.layouts import padded_graph
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import pretrained
from scripts.training.data import Example
from scripts.training.data_loader import Collator
from scripts.training.recipe import Recipe
from scripts.training.trainer import HooperTrainer, keep_freed_memory, make_arguments, make_schedule, tell_accelerate
from scripts.training.training_setup import set_up_training

WAYS = {
    "hooper bf16": "hooper train, bf16",
    "hooper fp32": "hooper train, the same in fp32",
    "trainer fp32": "transformers' Trainer in fp32: its own order of texts, attention and allocator",
}
BATCH_SIZE, MAX_TOKENS = 32, 128
WARM_UP_UPDATES = 3


def training_rate(way: str, num_texts: int, base_model: str) -> dict[str, float]:
    """One epoch of this way in this process: tokens a second, without padding, and the share of padding."""
    texts = profile_texts("mixed")[:num_texts]
    task, options = TextClassificationTraining(), {"labels": ["even", "odd"], "problem_type": "single_label_classification"}
    precision: Any = way.split()[1]
    recipe = Recipe(data=["texts"], epochs=1, batch_size=BATCH_SIZE, precision=precision)
    start = pretrained.find_start(base_model)
    torch.manual_seed(recipe.seed)
    examples = [
        Example(task.item({"text": text}), options["labels"][number % 2], "texts", str(number))
        for number, text in enumerate(texts)
    ]
    model = pretrained.load_model(recipe, task, options, start.base)
    max_tokens = min(MAX_TOKENS, pretrained.longest_input(model))
    rows = task.training_rows(examples, Tokenizer(start.tokenizer, max_tokens), options)
    collator = Collator(task, padded_graph(model, "row"), ())
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        train = train_with_trainer if way.startswith("trainer") else train_with_hooper
        train(recipe, task, model, rows[: WARM_UP_UPDATES * BATCH_SIZE], collator, Path(folder))
        collator.forget()
        seconds, padding = train(recipe, task, model, rows, collator, Path(folder))
    num_tokens = sum(row.row.num_tokens for row in rows)
    return {"tokens_per_s": round(num_tokens / seconds), "seconds": round(seconds, 2), "padding_share": round(padding, 4)}


def train_with_hooper(recipe: Any, task: Any, model: Any, rows: Any, collator: Any, folder: Path) -> tuple[float, float]:
    """Seconds and share of padding of Hooper's own loop, without checkpoints."""
    keep_freed_memory()
    setup = set_up_training(recipe, task, model, rows)
    arguments = make_arguments(setup, setup.updates_per_epoch, folder, save_strategy="no")
    trainer = HooperTrainer(setup, model, arguments, make_schedule(recipe, setup.updates_per_epoch), [])
    return trainer.train().metrics["train_runtime"], setup.collator.padding_share


def train_with_trainer(recipe: Any, task: Any, model: Any, rows: Any, collator: Any, folder: Path) -> tuple[float, float]:
    """The same of transformers' Trainer with its defaults, padding each batch to its longest text."""
    model.set_attn_implementation("sdpa")
    tell_accelerate(bf16=False)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=recipe.learning_rate,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
        logging_strategy="no",
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    return trainer.train().metrics["train_runtime"], collator.padding_share


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The median round of each way, and the ratios.

    Raises:
        SetupError: a way failed.
    """
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS:
            rounds[way].append(rate_in_subprocess(way, options.texts, options.base_model))
            print(f"round {number + 1}, {way}: {rounds[way][-1]['tokens_per_s']:,.0f} tokens/s", file=sys.stderr, flush=True)
    rate = {way: median(figures["tokens_per_s"] for figures in of_way) for way, of_way in rounds.items()}
    return {
        "texts": options.texts, "max_tokens": MAX_TOKENS, "batch_size": BATCH_SIZE, "base_model": options.base_model,
        "ways": {way: {"what": WAYS[way], "tokens_per_s": rate[way], "rounds": of_way} for way, of_way in rounds.items()},
        "bf16_to_fp32": round(rate["hooper bf16"] / rate["hooper fp32"], 2),
        "bf16_to_trainer_fp32": round(rate["hooper bf16"] / rate["trainer fp32"], 2),
    }  # fmt: skip


def rate_in_subprocess(way: str, num_texts: int, base_model: str) -> dict[str, float]:
    words = ["scripts.peers.training_speed", "--texts", str(num_texts), "--base-model", base_model, "--way", way]
    return run_module(words, way)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.peers.training_speed", __doc__)
    parser.add_argument("--texts", type=int, default=960, help="texts of the epoch, at most 2000")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    parser.add_argument("--base-model", default="packaged", help="what is trained")
    parser.add_argument("--way", choices=list(WAYS), help="measure this one here, and print it")
    options = parser.parse_args(arguments)
    if not options.way:
        return run_measurement(parser, measure, arguments)
    try:
        print(json.dumps(training_rate(options.way, options.texts, options.base_model)))
    except HooperError as error:
        print(f"training_speed: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    return 0


if __name__ == "__main__":
    sys.exit(main())
