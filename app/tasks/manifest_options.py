"""What a manifest's `task_options` say, checked against what the task's own class takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from app.core.errors import InvalidArtefact


def checked_options(task: Callable[..., Any], task_options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the class of a task, each of the type and within the bounds that its signature names.

    Args:
        task: its class; the first argument is the tokenizer and no option.

    Raises:
        InvalidArtefact: an option is unknown, missing, or nonsense.
    """
    try:
        # as JSON, which a manifest is: there a list may become a tuple, and still no text a number; what is being published
        # may have numbers of numpy's
        options = _model_of(task).model_validate_json(json.dumps(dict(task_options), default=float))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["task_options", *(str(part) for part in first["loc"])])
        raise InvalidArtefact(f"{where}: {first['msg']}") from error
    return {name: getattr(options, name) for name in options.model_fields_set}


@cache
def _model_of(task: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(task.__init__, include_extras=True)
    _, *parameters = inspect.signature(task).parameters.values()
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model("TaskOptions", __config__=config, **fields)
