"""The OpenAPI file: what FastAPI makes of the routes, put right for people and for programs that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.auth import SCHEMES
from app.api.error_formats import HUGGING_FACE, JSON, NATIVE, OPENAI, TEI, TGI

ERRORS = (NATIVE.model, HUGGING_FACE.model, TEI.model, TGI.model, OPENAI.model)
Schema = dict[str, Any]


def document(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Let the application's file hold what routes refer to by name, leave out what is never sent, and show every example.

    Args:
        app: with all its routes.
        bodies: models of bodies that are read by hand; errors are known here.
    """
    make = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            schema = make()  # FastAPI keeps it
            schemas = schema["components"]["schemas"]
            _, unseen = models_json_schema(
                [(model, "validation") for model in (*ERRORS, *bodies)], ref_template="#/components/schemas/{model}"
            )
            schemas.update(unseen["$defs"])
            schema["components"]["securitySchemes"] = SCHEMES
            for operation in operations(schema):
                _name_keys(operation)
                _drop_fastapi_errors(operation)
                _show_examples(operation, schemas)
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            _describe_generics(schemas)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def operations(schema: Schema) -> Iterator[Schema]:
    """Every operation of every path."""
    for path in schema["paths"].values():
        yield from path.values()


def example_title(example: Any) -> str:
    """What an example shows, for the list one chooses from: `a list, with top_k`."""
    field = next((name for name in ("inputs", "input") if isinstance(example, dict) and name in example), None)
    if field is None:
        return "a request"
    kind = "a list" if isinstance(example[field], list) else "one item"
    options = [name for name in example if name != field]
    return f"{kind}, with {' and '.join(options)}" if options else kind


def _show_examples(operation: Schema, schemas: dict[str, Schema]) -> None:
    """Put the examples of a body where the docs page lets one choose; beside its schema it shows only the first."""
    content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if "examples" in content or "example" in content:
        return
    examples = schemas.get(name, {}).get("examples", [])
    titles = [example_title(example) for example in examples]
    unique = [title if titles.count(title) == 1 else f"{title} ({number})" for number, title in enumerate(titles, 1)]
    if examples:
        content["examples"] = {
            title: {"summary": title, "value": example} for title, example in zip(unique, examples, strict=True)
        }


def _name_keys(operation: Schema) -> None:
    """Whoever may be answered with 401 can bring a key, in either way."""
    if "401" in operation["responses"]:
        operation["security"] = [{name: []} for name in SCHEMES]


def _describe_generics(schemas: dict[str, Schema]) -> None:
    """A generic model's docstring is not its specialization's: pydantic leaves those without one."""
    for name, schema in schemas.items():
        if name.startswith("Envelope_") and "description" not in schema:
            schema["description"] = (
                "The answer to a request: one result per item, in the same order, unless the route says otherwise."
            )


def _drop_fastapi_errors(operation: Schema) -> None:
    """FastAPI documents its own shape of 422, which this service never sends, where a route documents none."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        operation["responses"].pop("422")
