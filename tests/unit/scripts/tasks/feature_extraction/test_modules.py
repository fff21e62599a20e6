"""What is read of a folder that sentence-transformers wrote, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings

pytest.importorskip("transformers")

from scripts.tasks.feature_extraction.modules import LayerSpec, find_modules, read_modules

MODULES: list[dict[str, Any]] = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
NORMALIZE = {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}
TANH = "torch.nn.modules.activation.Tanh"


def folder(root: Path, *more: dict[str, Any], **files: Any) -> Path:
    """A folder with these modules and files, whose names have `__` for a slash."""
    contents = {"modules": [*MODULES, *more], "1_Pooling__config": {}, "config": {}, **files}
    for name, value in contents.items():
        path = root / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_weightedmean_tokens": True, "pooling_mode_mean_tokens": False}, ("weightedmean",)),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, ("mean_sqrt_len",)),
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"pooling_mode": ["mean", "max"]}, ("max", "mean")),
    ],
)
def test_ways_to_pool_are_read_from_old_and_new_files(tmp_path: Path, pooling: Any, modes: tuple[str, ...]) -> None:
    assert read_modules(folder(tmp_path, **{"1_Pooling__config": pooling})).pooling == modes


def test_layers_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    dense = {"in_features": 8, "out_features": 4, "bias": False, "activation_function": TANH}
    modules = read_modules(folder(tmp_path, NORMALIZE, DENSE, **{"2_Dense__config": dense}))
    assert modules.layers == (LayerSpec("Dense", str(tmp_path / "2_Dense"), 8, 4, False, "Tanh"), LayerSpec("Normalize"))
    assert modules.is_normalized


def test_a_transformer_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    root = folder(tmp_path, **{"0_Transformer__sentence_bert_config": {"max_seq_length": 128, "do_lower_case": True}})
    moved = [{**MODULES[0], "path": "0_Transformer"}, MODULES[1]]
    (root / "modules.json").write_text(json.dumps(moved), encoding="utf-8")
    modules = read_modules(root)
    assert (modules.transformer, modules.max_tokens, modules.lower_case) == (str(root / "0_Transformer"), 128, True)


@pytest.mark.parametrize(
    ("config", "card", "expected"),
    [
        ({}, "---\ntags:\n- sentence-similarity\n---\nMatryoshkaLoss\n", (False, ())),
        ({}, "---\ntags:\n- loss:MatryoshkaLoss\n---\n", (True, ())),
        ({"is_matryoshka": True}, "", (True, ())),
        ({"matryoshka_dimensions": [64, 32]}, "", (True, (32, 64))),
    ],
)
def test_who_was_trained_for_shorter_vectors_says_so_in_its_config_or_its_card(
    tmp_path: Path, config: Any, card: str, expected: Any
) -> None:
    root = folder(tmp_path, config=config)
    (root / "README.md").write_text(card, encoding="utf-8")
    modules = read_modules(root)
    assert (modules.is_matryoshka, modules.matryoshka_dimensions) == expected


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"modules": [MODULES[1]]}, "begins with Pooling; a Transformer and a Pooling can be served"),
        ({"modules": {}}, "is no list of modules"),
        ({"modules": [*MODULES, {**DENSE, "type": "a.b.CNN"}]}, "is a module CNN, which is not known here"),
        ({"1_Pooling__config": {"pooling_mode": "best"}}, "pools by best; known are cls, max, mean"),
        ({"1_Pooling__config": {"pooling_mode_mean_tokens": False}}, "pools by nothing"),
        ({"config_sentence_transformers": {"default_prompt_name": "query"}}, "'query', which is none of its prompts"),
        (
            {
                "modules": [*MODULES, DENSE],
                "2_Dense__config": {"in_features": 1, "out_features": 1, "activation_function": "os.system"},
            },
            "has the activation system; known are",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_by_its_name(tmp_path: Path, files: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        read_modules(folder(tmp_path, **files))


def test_a_folder_without_modules_is_none(tmp_path: Path) -> None:
    assert find_modules(str(tmp_path)) is None
