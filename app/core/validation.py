"""What pydantic found wrong with a value, as one sentence for a person that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

_SOURCES = ("body", "query", "path", "header")
_UNION_TAGS = ("list[", "literal[", "tagged-union[", "function-", "nullable[", "constrained-")
_PLAIN = {
    "model_attributes_type": "should be an object",
    "model_type": "should be an object",
    "extra_forbidden": "is not a field that is known here",
    "missing": "is required",
    "too_short": "must not be empty",
    "string_unicode": "contains a lone surrogate, which is not valid Unicode",
}
MAX_NAMED, MAX_NAME = 3, 40
"""Unknown fields that are named where a required one is missing, and characters of each."""


def describe_validation(errors: Sequence[Mapping[str, Any]]) -> str:
    """`field: what is wrong` for the field of `wrong_field`."""
    if errors[0]["type"] == "json_invalid":
        return f"the body is not valid JSON: {errors[0]['ctx']['error']}"
    field, message = wrong_field(errors)
    return f"{field or 'body'}: {message}"


def wrong_field(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The first wrong field, empty for the value itself, and what is wrong; a union's branches are joined by "or"."""
    # of a union's branches the one that got past the type, or else deepest, is the one that was meant
    branch_errors = _of_named_branches([error for error in errors if not error["type"].endswith("_type")] or errors)
    field = max((_field(error) for error in branch_errors), key=len)
    found = [error for error in branch_errors if _field(error) == field]
    messages = dict.fromkeys(_reworded(error) for error in found)
    message = " or ".join(messages).replace(" or should be ", " or ")
    if found[0]["type"] == "literal_error" and any(_field(error) == (*field, "bool") for error in errors):
        message = message.replace("should be ", "should be true, false or ")
    # of one branch of a union what another one does not know says nothing
    parents = {tuple(error["loc"][:-1]) for error in found if error["type"] == "missing"}
    if parents:
        message += _instead(errors, parents)
    return ".".join(field), message


def _of_named_branches(errors: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those of the branches with most of the names that were given: the others were not meant."""
    branches = [tuple(str(part) for part in error["loc"] if _is_tag(str(part))) for error in errors]
    misnamed: dict[tuple[str, ...], int] = dict.fromkeys(filter(None, branches), 0)
    for branch, error in zip(branches, errors, strict=True):
        if branch and error["type"] in ("missing", "extra_forbidden"):
            misnamed[branch] += 1
    least = min(misnamed.values(), default=0)
    return [error for branch, error in zip(branches, errors, strict=True) if misnamed.get(branch, least) == least]


def _instead(errors: Sequence[Mapping[str, Any]], parents: Set[tuple[Any, ...]]) -> str:
    """What was given there under names that are not known: a caller's own names of columns, or a slip."""
    unknown = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    names = list(dict.fromkeys(str(place[-1]) for place in unknown if tuple(place[:-1]) in parents))
    if not names:
        return ""
    listed = " and ".join(repr(name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…") for name in names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    verb = "is not a field that is" if len(names) == 1 else "are not fields that are"
    return f"; {listed}{more} {verb} known here"


def _reworded(error: Mapping[str, Any]) -> str:
    if error["type"] in _PLAIN:
        return _PLAIN[error["type"]]
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace(" after validation, not", ", not")
    return message[:1].lower() + message[1:]


def _field(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Names from the outside in, without the tags that pydantic puts in for the branches of a union."""
    parts = [str(part) for part in error["loc"]]
    if parts and parts[0] in _SOURCES:
        del parts[0]
    # the last part of these is what the caller wrote, whatever it looks like
    field = parts.pop() if error["type"] in ("extra_forbidden", "missing") and parts else None
    names = [part for part in parts if not _is_tag(part)]
    return (*names, field) if field is not None else tuple(names)


def _is_tag(part: str) -> bool:
    return part == "str" or part.startswith(_UNION_TAGS) or part[:1].isupper()
