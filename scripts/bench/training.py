"""How fast `hooper train` learns in bf16, beside fp32 and beside transformers' Trainer as it comes, on the same texts.

python -m scripts.bench.training --output scripts/bench/results/training.json

Each way trains one epoch in a process of its own, since torch's settings and the memory allocator's are a process's; the ways
take turns, so that a machine that gets busier does so for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from scripts.bench.apart import told_by
from scripts.bench.report import machine_before, write_json
from scripts.bench.texts import profile_texts

WAYS = {
    "hooper bf16": "hooper train, bf16",
    "hooper fp32": "hooper train, the same in fp32",
    "trainer fp32": "transformers' Trainer in fp32: its own order of texts, attention and allocator",
}
BATCH_SIZE, MAX_TOKENS = 32, 128
WARM_UP_UPDATES = 3


def rate_of(way: str, num_texts: int, base_model: str) -> dict[str, float]:
    """One epoch of this way in this process: tokens a second, without padding, and the share of padding."""
    import torch

    from app.tasks.tokenizer import Tokenizer
    from scripts.export.layouts import padded_graph
    from scripts.tasks.text_classification.task import TextClassificationTraining
    from scripts.training import pretrained
    from scripts.training.data import Example
    from scripts.training.data_loader import Collator
    from scripts.training.recipe import Recipe

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
        train = _as_it_comes if way.startswith("trainer") else _as_hooper
        train(recipe, task, model, rows[: WARM_UP_UPDATES * BATCH_SIZE], collator, Path(folder))
        collator.forget()
        seconds, padding = train(recipe, task, model, rows, collator, Path(folder))
    num_tokens = sum(one.row.num_tokens for one in rows)
    return {"tokens_per_s": round(num_tokens / seconds), "seconds": round(seconds, 2), "padding_share": round(padding, 4)}


def _as_hooper(recipe: Any, task: Any, model: Any, rows: Any, collator: Any, folder: Path) -> tuple[float, float]:
    """Seconds and share of padding of Hooper's own loop, without checkpoints."""
    from scripts.training.trainer import HooperTrainer, keep_freed_memory, make_arguments, make_schedule
    from scripts.training.training_setup import set_up_training

    keep_freed_memory()
    course = set_up_training(recipe, task, model, rows)
    arguments = make_arguments(course, course.updates_per_epoch, folder, save_strategy="no")
    trainer = HooperTrainer(course, model, arguments, make_schedule(recipe, course.updates_per_epoch), [])
    return trainer.train().metrics["train_runtime"], course.collator.padding_share


def _as_it_comes(recipe: Any, task: Any, model: Any, rows: Any, collator: Any, folder: Path) -> tuple[float, float]:
    """The same of transformers' Trainer with its defaults, padding each batch to its longest text."""
    import torch
    import transformers

    from scripts.training.trainer import tell_accelerate

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


def measure(num_texts: int, rounds: int, base_model: str) -> dict[str, Any]:
    """The median round of each way, and the ratios.

    Raises:
        SetupError: a way failed.
    """
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            found[way].append(_in_a_process(way, num_texts, base_model))
            print(f"round {number + 1}, {way}: {found[way][-1]['tokens_per_s']:,.0f} tokens/s", flush=True)
    middle = {way: median(one["tokens_per_s"] for one in rates) for way, rates in found.items()}
    return {
        "ways": {way: {"what": WAYS[way], "tokens_per_s": middle[way], "rounds": rates} for way, rates in found.items()},
        "bf16_to_fp32": round(middle["hooper bf16"] / middle["hooper fp32"], 2),
        "bf16_to_trainer_fp32": round(middle["hooper bf16"] / middle["trainer fp32"], 2),
    }


def _in_a_process(way: str, num_texts: int, base_model: str) -> dict[str, float]:
    words = ["scripts.bench.training", "--texts", str(num_texts), "--base-model", base_model, "--way", way]
    return told_by(words, way)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="training", description="How fast a training is in bf16, and in fp32.")
    made.add_argument("--texts", type=int, default=960, help="texts of the epoch, at most 2000")
    made.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    made.add_argument("--base-model", default="packaged", help="what is trained")
    made.add_argument("--way", choices=list(WAYS), help="measure this one here, and print it")
    made.add_argument("--output", type=Path, help="file for the report")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options, load = parser().parse_args(arguments), os.getloadavg()
    try:
        if options.way:
            print(json.dumps(rate_of(options.way, options.texts, options.base_model)))
            return 0
        figures = measure(options.texts, options.rounds, options.base_model)
    except HooperError as error:
        print(f"training: {error.detail}", file=sys.stderr)
        return EXIT_SETUP
    report = {
        "command": "python -m scripts.bench.training " + " ".join(sys.argv[1:] if arguments is None else arguments),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_before(load),
        "texts": options.texts,
        "max_tokens": MAX_TOKENS,
        "batch_size": BATCH_SIZE,
        "base_model": options.base_model,
        **figures,
    }
    print(
        f"bf16 is {report['bf16_to_fp32']} times fp32, and {report['bf16_to_trainer_fp32']} times transformers' Trainer in fp32"
    )
    write_json(options.output, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
