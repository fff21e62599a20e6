"""`POST /v1/summarize`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Asked
from app.api.json_body import JsonRoute
from app.api.routes.problems import ANSWERED, EVERY_PREDICTION, problems
from app.api.schemas.common import Envelope
from app.api.schemas.summarize import SummarizeRequest, SummarizeResult

router = APIRouter(route_class=JsonRoute)


@router.post("/summarize", summary="Summarize texts", responses=ANSWERED | problems(*EVERY_PREDICTION))
async def summarize(request: SummarizeRequest, call: Asked) -> Envelope[SummarizeResult]:
    """The sentences of a document that say most, verbatim and in its order, with their places and scores.

    Documents of any length are read, in windows of whole sentences.
    In a list, an item that cannot be summarized gets an `error` in its place, and the others are.
    """
    return await call.answer("summarization", request, SummarizeResult.of)
