"""`POST /v1/feedback`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Asked
from app.api.json_body import JsonRoute
from app.api.routes.problems import ANSWERED, EVERY_PREDICTION, problems
from app.api.schemas.common import Envelope
from app.api.schemas.feedback import FeedbackRequest, FeedbackResult

router = APIRouter(route_class=JsonRoute)


@router.post("/feedback", summary="Correct a model", responses=ANSWERED | problems(*EVERY_PREDICTION))
async def feedback(request: FeedbackRequest, call: Asked) -> Envelope[FeedbackResult]:
    """Keep what the right answer would have been, beside the model's own, for `hooper train --from-feedback`.

    Off unless the service was started with `HOOPER_FEEDBACK`, the file in which texts and corrections are kept: then 404. An
    answer of 200 says that they are on the disk. In a list, a correction that cannot be kept gets an `error` in its place, and
    the others are kept.
    """
    return await call.correct(request, FeedbackResult.of)
