"""`POST /v1/answer`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Asked
from app.api.json_body import JsonRoute
from app.api.routes.problems import ANSWERED, EVERY_PREDICTION, problems
from app.api.schemas.answer import AnswerRequest, AnswerResult
from app.api.schemas.common import Envelope

router = APIRouter(route_class=JsonRoute)


@router.post("/answer", summary="Answer questions about a text", responses=ANSWERED | problems(*EVERY_PREDICTION))
async def answer(request: AnswerRequest, call: Asked) -> Envelope[AnswerResult]:
    """The words of a text that answer a question, with their place in it; for one question or a list.

    A text of any length is read: in windows that overlap, all of them in the same batch.
    In a list, an item that cannot be answered gets an `error` in its place, and the others are answered.
    """
    return await call.answer("question-answering", request, AnswerResult.of)
