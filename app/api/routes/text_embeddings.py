"""`POST /predict` and `GET /info`: text-embeddings-inference, for the default text-classification model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.api.dependencies import Asked, Live, live
from app.api.dialects import TEI
from app.api.json_body import JsonRoute
from app.api.routes.problems import problems
from app.api.schemas.classify import Label
from app.api.schemas.text_embeddings import Info, PredictRequest

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/predict",
    summary="Classify a text, a pair or a batch",
    responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 424, 429, 503, 504, dialect=TEI),
)
async def predict(request: PredictRequest, call: Asked) -> list[Label] | list[list[Label]]:
    """Labels of a text or of a pair, best first; for a batch, a list of them.

    `["a", "b"]` is a pair, `[["a"], ["b"]]` a batch of two texts. Where one of a batch cannot be answered, none is.
    """
    with call.lease("text-classification", None) as deployment:
        results = await call.results(deployment, request.items(), request.options(), request.place, '"truncate": true')
        return request.shaped(results)


@router.get("/info", summary="Show the model behind `/predict`", responses=problems(401, 421, 424, 429, 503, dialect=TEI))
async def info(request: Request, state: Annotated[Live, Depends(live)]) -> Info:
    """The default text-classification model, and what may be asked of it."""
    with state.registry.lease("text-classification") as deployment:
        return Info.of(deployment, state.settings.max_items, request.app.version)
