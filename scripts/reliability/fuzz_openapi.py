"""Requests that fit the OpenAPI file, and requests that do not, to every operation of it. Drawn by schemathesis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.errors import SchemathesisError

from scripts.bench.service import Address
from scripts.reliability.draw import ask_with
from scripts.reliability.tally import Tally

DEADLINE = "x-request-timeout-ms"
DEAR = {"/v1/explain": 0.1}
"""An explanation reads its item hundreds of times: a smaller share of the cases goes to it."""


def fuzz_openapi(address: Address, count: int, dice: random.Random, patience_s: float) -> Tally:
    """Ask every operation, in both modes, until the count is used up.

    Args:
        address: of the service.
        count: of cases.
        dice: what chance is drawn from.
        patience_s: seconds after which a request counts as hung.
    """
    tally = Tally()
    base_url = f"http://{address.host}:{address.port}"
    schema = schemathesis.openapi.from_dict(address.get("/openapi.json"))
    operations = [one.ok() for one in schema.get_all_operations()]
    with requests.Session() as session:
        session.trust_env = False
        for operation, mode, share in _shares(operations, count):
            strategy = operation.as_strategy(generation_mode=mode)
            try:
                ask_with(strategy, share, dice, lambda case: _ask(case, session, base_url, patience_s, tally))
            except SchemathesisError:  # this operation has nothing that could be wrong with it
                continue
    return tally


def _shares(operations: list[Any], count: int) -> Iterator[tuple[Any, GenerationMode, int]]:
    """Every operation twice, with its share of the cases; those without parameters get only as many as they need."""
    weights = [_weight(one) for one in operations]
    for operation, weight in zip(operations, weights, strict=True):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            yield operation, mode, max(1, round(count * weight / sum(weights) / 2))


def _weight(operation: Any) -> float:
    if operation.method.upper() != "POST":
        return 0.15
    return DEAR.get(operation.path, 1.0)


def _ask(case: Any, session: requests.Session, base_url: str, patience_s: float, tally: Tally) -> None:
    kind = f"{case.operation.method.upper()} {case.operation.path}"
    headers = {name.lower() for name in case.headers or {}}
    try:
        response = case.call(base_url=base_url, session=session, timeout=patience_s)
    except requests.Timeout:
        tally.hung(kind, patience_s, case)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        tally.broke(kind, f"broke off ({type(error).__name__})", case)
    except (ValueError, requests.RequestException):  # the client itself refuses to send what was drawn
        tally.kinds["not sent"] += 1
    else:
        tally.answered(kind, response.status_code, case, DEADLINE in headers or "timeout" in str(case.body))
