"""Which series and labels an expression of PromQL names. Reads ours, not every expression there can be."""

from __future__ import annotations

import re

_STRING = re.compile(r'"[^"]*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_WORD = re.compile(r"(?<![\w$])[a-zA-Z_]\w*")


def series(expression: str) -> set[str]:
    """Names of series: words that are no function, no keyword, no label and no unit of time."""
    bare = _GROUPING.sub(" ", _MATCHERS.sub(" ", _STRING.sub('""', expression)))
    bare = re.sub(r"\[[^\]]*\]|\boffset \w+", " ", bare)
    called = set(re.findall(r"(\w+)\s*\(", bare))
    return set(_WORD.findall(bare)) - called - {"and", "or", "unless", "sum", "by", "on"}


def labels(expression: str) -> set[str]:
    """Names of labels that it selects or groups by."""
    bare = _STRING.sub('""', expression)
    selected = {name for part in _MATCHERS.findall(bare) for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", part)}
    grouped = {name.strip() for part in _GROUPING.findall(bare) for name in part.split(",") if name.strip()}
    return selected | grouped
