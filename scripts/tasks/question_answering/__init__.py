"""Extractive question answering offline: SQuAD's forms, hard negatives, EM and F1, a fitted temperature."""

from scripts.tasks.question_answering.task import SPEC as SPEC
