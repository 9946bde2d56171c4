"""``/api/openapi.json``: the API described by OpenAPI 3.1, made of the same table as its routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relay.http.composing import Draft
from relay.http.queries import OPERATIONS, Operation, Parameter

_ERROR: Final = {
    "description": "what is wrong",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}


def endpoint(version: str) -> Callable[[Request], Awaitable[Response]]:
    """Answers with the document."""
    document = describe(version)

    async def answer(request: Request) -> Response:
        del request
        return JSONResponse(document)

    return answer


def describe(version: str) -> dict[str, Any]:
    """The document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    (draft,), components = msgspec.json.schema_components([Draft], ref_template="#/components/schemas/{name}")
    paths["/api/messages"] = {"post": _submission(draft)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "relay", "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    kind = "array" if operation.is_list or operation.verb in {"trace", "brakes"} else "object"
    described: dict[str, Any] = {
        "operationId": operation.verb,
        "summary": operation.summary,
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": {"type": kind}}}},
            **dict.fromkeys(("400", "401", "403", "503"), _ERROR),
        },
    }
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.arguments:
        schema = {"type": "object", "description": operation.arguments}
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    is_list = parameter.kind == "list"
    schema = {"type": "array", "items": {"type": "string"}} if is_list else {"type": parameter.kind}
    return {"name": parameter.name, "in": "query", "description": parameter.summary, "schema": schema}


def _submission(draft: dict[str, Any]) -> dict[str, Any]:
    queued = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
    return {
        "operationId": "submit",
        "summary": "Submit a message; 202 once it is durable.",
        "parameters": [
            _parameter(Parameter("sender", "string", "the envelope's sender; default: of the header")),
            _parameter(Parameter("recipient", "list", "the envelope's recipients; default: of the header")),
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "who sends again under it within 24 hours gets the first message's id",
                "schema": {"type": "string", "maxLength": 255},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "message/rfc822": {"schema": {"type": "string", "contentMediaType": "message/rfc822"}},
                "application/json": {"schema": draft},
            },
        },
        "responses": {
            "202": {"description": "it is kept", "content": {"application/json": {"schema": queued}}},
            **dict.fromkeys(("400", "401", "403", "413", "415", "422", "429", "503"), _ERROR),
        },
    }
