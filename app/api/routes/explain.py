"""`POST /v1/explain`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Asked
from app.api.json_body import JsonRoute
from app.api.routes.problems import EVERY_PREDICTION, problems
from app.api.schemas.common import Envelope
from app.api.schemas.explain import ExplainRequest, ExplainResult

router = APIRouter(route_class=JsonRoute)


@router.post("/explain", summary="Explain an answer", responses=problems(*EVERY_PREDICTION))
async def explain(request: ExplainRequest, call: Asked) -> Envelope[ExplainResult]:
    """Which words made the model decide: for a label, an answer, or a sentence of a summary.

    The model reads the item again and again with some of its words hidden, while it has nothing more urgent to do; the words
    are the caller's own, with their places. In a list, an item that cannot be explained gets an `error` in its place.
    """
    return await call.explain(request, ExplainResult.of)
