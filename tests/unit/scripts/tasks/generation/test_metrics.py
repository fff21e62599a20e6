"""Metrics of written texts: as sacrebleu and rouge-score have them, in languages of several scripts, with intervals."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from scripts.tasks.generation.metrics import (
    bleu,
    bleu_interval,
    bleu_tokenizer,
    chrf,
    chrf_interval,
    mean_interval,
    row_chrf,
    row_rouge,
)

REFERENCES = ["Ein Hund läuft über die Straße.", "Zwei Kinder spielen im Garten.", "Das kostet 12 Euro.", "Nein."]
TEXTS = ["Ein Hund rennt über die Straße.", "Zwei Kinder spielen im Garten.", "Das kostet zwölf Euro.", "Ja."]


def test_corpus_figures_are_those_of_sacrebleu() -> None:
    assert bleu(TEXTS, REFERENCES) == pytest.approx(sacrebleu.corpus_bleu(TEXTS, [REFERENCES]).score)
    assert chrf(TEXTS, REFERENCES) == pytest.approx(sacrebleu.corpus_chrf(TEXTS, [REFERENCES]).score)
    assert row_chrf(TEXTS, REFERENCES)[1] == pytest.approx(100)


def test_languages_without_blanks_are_cut_otherwise() -> None:
    assert (bleu_tokenizer("zh"), bleu_tokenizer("ja"), bleu_tokenizer("de")) == ("zh", "char", "13a")
    assert bleu(["今日は天気がいい"], ["今日は天気がいいね"], "ja") > 50 > bleu(["今日は天気がいい"], ["今日は天気がいいね"])


def test_rouge_counts_words_of_any_script_outside_english() -> None:
    assert row_rouge(["größer"], ["größer"], "de")["rouge1"][0] == pytest.approx(100)
    assert row_rouge(["größer"], ["großer"], "de")["rouge1"][0] == 0
    assert row_rouge(["Привет мир"], ["Привет, мир!"], "ru")["rouge2"][0] == pytest.approx(100)
    assert row_rouge(["今日は"], ["今日"], "ja")["rouge1"][0] == pytest.approx(80)
    assert row_rouge(["the dogs ran"], ["the dog runs"], "en")["rouge1"][0] == pytest.approx(200 / 3)  # by stems


def test_intervals_hold_the_figure_and_are_the_same_each_time() -> None:
    for interval, figure in (
        (bleu_interval(TEXTS * 5, REFERENCES * 5), bleu(TEXTS * 5, REFERENCES * 5)),
        (chrf_interval(TEXTS * 5, REFERENCES * 5), chrf(TEXTS * 5, REFERENCES * 5)),
    ):
        assert interval[0] < figure < interval[1]
    assert bleu_interval(TEXTS, REFERENCES) == bleu_interval(TEXTS, REFERENCES)
    scores = np.random.default_rng(0).normal(50, 10, 400)
    low, high = mean_interval(scores)
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 20, rel=0.1)
