"""`POST /v1/classify`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Asked
from app.api.json_body import JsonRoute
from app.api.routes.problems import ANSWERED, EVERY_PREDICTION, problems
from app.api.schemas.classify import ClassifyRequest, ClassifyResult
from app.api.schemas.common import Envelope

router = APIRouter(route_class=JsonRoute)


@router.post("/classify", summary="Classify texts", responses=ANSWERED | problems(*EVERY_PREDICTION))
async def classify(request: ClassifyRequest, call: Asked) -> Envelope[ClassifyResult]:
    """Labels with scores for a text, a pair of texts, or a list of them.

    In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.
    """
    return await call.answer("text-classification", request, ClassifyResult.of)
