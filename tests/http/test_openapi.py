from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from starlette.requests import Request

from relay.http.neighbours import Unanswered
from relay.http.openapi import describe
from relay.http.queries import OPERATIONS, Operation, answer


def request(query: str = "", body: bytes = b"", kind: str = "application/json") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    fields = [(b"content-type", kind.encode())] if kind else []
    return Request({"type": "http", "query_string": query.encode(), "headers": fields, "method": "GET"}, receive)


def operation(path: str, method: str = "GET") -> Operation:
    return next(each for each in OPERATIONS if (each.path, each.method) == (path, method))


async def echo(verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
    yield [verb, dict(arguments)]


async def asked(path: str, query: str) -> Any:
    heard: list[Any] = []

    async def ask(verb: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        heard.append((verb, dict(arguments)))
        yield []

    await answer(ask, operation(path), request(query))
    return heard[0] if heard else None


def test_every_operation_is_described_and_every_reference_leads_somewhere() -> None:
    document = describe("1.2.3")
    assert document["info"]["version"] == "1.2.3"
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == {(each.path, each.method) for each in OPERATIONS} | {("/api/messages", "POST")}
    names = [of["operationId"] for methods in document["paths"].values() for of in methods.values()]
    assert len(set(names)) == len(names)
    schemas = document["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [r for each in node.values() for r in references(each)]
        return [r for each in node for r in references(each)] if isinstance(node, list) else []

    found = references(document)
    assert found
    assert all(each.rpartition("/")[2] in schemas for each in found)
    assert set(schemas["Draft"]["properties"]) == {
        *("from", "to", "cc", "bcc", "subject", "text", "html", "headers", "attachments")
    }


async def test_a_query_becomes_the_arguments_of_the_command() -> None:
    assert await asked("/api/queue", "id=A&id=B&state=held&older_than=60&limit=5&sender=") == (
        "list",
        {"ids": ["A", "B"], "state": "held", "older_than": 60.0, "limit": 5, "sender": ""},
    )
    assert await asked("/api/queue/count", "all=true") == ("count", {"all": True})
    assert await asked("/api/trace", "id=%3C1%40x%3E") == ("trace", {"text": "<1@x>"})


@pytest.mark.parametrize("query", ["limit=five", "limit=1&limit=2", "all=perhaps", "older_than=", "color=red"])
async def test_what_is_no_argument_is_said(query: str) -> None:
    with pytest.raises(Unanswered) as caught:
        await asked("/api/queue", query)
    assert caught.value.status == 400


async def test_a_change_takes_an_object_of_json() -> None:
    hold = operation("/api/queue/hold", "POST")
    assert b'["hold",{"all":true}]' in bytes((await answer(echo, hold, request(body=b'{"all": true}'))).body)
    for body, kind, status in (
        (b"all=true", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b" " * 2_000_000, "application/json", 413),
    ):
        with pytest.raises(Unanswered) as caught:
            await answer(echo, hold, request(body=body, kind=kind))
        assert caught.value.status == status


async def test_a_listing_is_one_array_however_many_parts_it_has() -> None:
    for count, expected in ((0, b"[]\n"), (1, b"[]\n"), (4, b'[{"n":1},{"n":2},{"n":2},{"n":0}]\n')):

        async def parts(verb: str, arguments: Mapping[str, Any], count: int = count) -> AsyncIterator[Any]:
            for n in range(count):
                yield [{"n": n % 3}] * (n if n < 3 else 1)

        said = await answer(parts, operation("/api/queue"), request())
        assert b"".join([piece async for piece in said.body_iterator]) == expected  # type: ignore[attr-defined]
