"""Texts that nearly repeat an earlier one are found, the same each time, in time that grows as the texts do."""

from __future__ import annotations

import random

from scripts.training.near_duplicates import MAX_BUCKET, near_duplicates

WORDS = [f"w{number}x{number * 7919 % 997}" for number in range(500)]


def texts(count: int, seed: int = 3) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choice(WORDS) for _ in range(60)) for _ in range(count)]


def test_a_changed_word_is_a_near_duplicate_and_another_text_is_none() -> None:
    originals = texts(200)
    copies = [text.replace(text.split()[30], "changed", 1) for text in originals]
    assert list(near_duplicates([*originals, *copies])) == [(200 + index, index) for index in range(200)]


def test_a_text_of_which_half_is_new_is_none() -> None:
    first, second = texts(2)
    assert list(near_duplicates([first, f"{first[: len(first) // 2]} {second[len(second) // 2 :]}"])) == []


def test_scripts_without_blanks_are_compared_too() -> None:
    text = "这个产品的质量非常好我很喜欢它的颜色而且价格便宜送货也很快下次还会再来购买推荐给大家"
    assert list(near_duplicates([text, text + "了", "包裹来得太晚了没有人回复我的消息我非常失望再也不会来这里买东西了"])) == [
        (1, 0)
    ]


def test_short_texts_and_lone_surrogates_are_passed_over() -> None:
    assert list(near_duplicates(["", "no", "no.", "how do i pay", "how do i pay?", "\ud800" * 30])) == []


def test_of_many_alike_each_is_told_once_and_compared_with_a_few() -> None:
    text = texts(1)[0]
    pairs = list(near_duplicates([f"{text} {number}" for number in range(10 * MAX_BUCKET)]))
    assert [later for later, _ in pairs] == list(range(1, 10 * MAX_BUCKET))
    assert {earlier for _, earlier in pairs} <= set(range(MAX_BUCKET))
