"""`POST /models/{name}`: the Hugging Face Inference API, so that its clients work unchanged.

`huggingface_hub.InferenceClient` is told the model's URL, in one of these ways:

    InferenceClient(model="http://127.0.0.1:8000/models/sentiment").text_classification("Great.")
    InferenceClient(base_url="http://127.0.0.1:8000/models/sentiment").text_classification("Great.")
    InferenceClient().text_classification("Great.", model="http://127.0.0.1:8000/models/sentiment")

A key goes into `token` or `api_key`. A bare model name does not work: the client looks that up on the hub. Nor does the
service's URL alone: for these tasks the client adds no path to it.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Response

from app.api.dependencies import Asked
from app.api.dialects import HUGGING_FACE
from app.api.hub import items, options, shaped
from app.api.json_body import JsonRoute
from app.api.routes.problems import EVERY_PREDICTION, problems
from app.api.schemas.hugging_face import EXAMPLES, InferenceAnswer, InferenceRequest

HUB_CLIENT = re.compile(r"hf_hub/|@huggingface/")
"""What Hugging Face's Python and JavaScript clients call themselves."""

ADVICE = '"parameters": {"truncation": "longest_first"}'

router = APIRouter(route_class=JsonRoute)
Name = Annotated[str, Path(description="A loaded model's name.", max_length=64, examples=["sentiment"])]
Inference = Annotated[InferenceRequest, Body(openapi_examples=EXAMPLES)]


@router.post("/models/{name}", summary="Ask a model by its name", responses=problems(*EVERY_PREDICTION, dialect=HUGGING_FACE))
async def ask_by_name(
    name: Name,
    request: Inference,
    call: Asked,
    response: Response,
    user_agent: Annotated[str, Header(include_in_schema=False)] = "",
) -> InferenceAnswer:
    """Labels, answers or a summary, by the model's task, in the shapes of Hugging Face's task specifications.

    One input gets the specification's answer, a list of inputs a list of those; where one of a list cannot be answered, none
    is. The header `X-Truncated` says how many inputs were cut. To Hugging Face's own clients, told by their `User-Agent`, the
    answer to one input has the shape that they read: labels and summaries in a list of one, a lone answer without its list.
    """
    with call.lease(None, name) as deployment:
        task = deployment.manifest.task
        results = await call.results(deployment, items(task, request), options(task, request), request.place, ADVICE)
        response.headers["Vary"] = "User-Agent"
        if request.ignored:
            response.headers["X-Ignored-Parameters"] = ", ".join(request.ignored)
        return shaped(task, request, results, HUB_CLIENT.search(user_agent) is not None)  # type: ignore[no-any-return]
