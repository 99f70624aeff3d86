"""The document that clients are made from."""

from __future__ import annotations

from fastapi.routing import iter_route_contexts

from quantry_core.errors import PROBLEM_CONTENT_TYPE
from quantry_core.keys import Role
from quantry_core.methods import METHODS
from quantry_core.permissions import PERMISSIONS, Access

from .conftest import Api

DOCUMENT = "/api/v1/openapi.json"


async def test_every_public_endpoint_is_documented(api: Api) -> None:
    document = (await api[Role.VIEWER].get(DOCUMENT)).json()
    operations = {(method.upper(), path): op for path, methods in document["paths"].items() for method, op in methods.items()}
    routes = {(method, str(route.path_format)) for route in iter_route_contexts(api.app.routes) for method in route.methods or ()}
    assert set(operations) == {(method, path) for method, path in routes if path.startswith(("/api/v1/", "/v1/")) and path != DOCUMENT}
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))
    assert {"submit_job", "show_job", "watch_job", "claim_job", "finish_attempt", "create_key"} <= set(ids)
    for (method, path), operation in operations.items():
        assert operation["security"] == ([] if PERMISSIONS[method, path] is Access.ANYONE else [{"ApiKey": []}])
        assert operation["description"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/json" if path.startswith("/v1/") else PROBLEM_CONTENT_TYPE]


async def test_every_reference_leads_somewhere(api: Api) -> None:
    document = (await api[Role.VIEWER].get(DOCUMENT)).json()
    references: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                references.append(value["$ref"])
            for item in value.values():
                walk(item)
        if isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)
    schemas = document["components"]["schemas"]
    assert len(references) > 20
    assert [ref for ref in references if ref.removeprefix("#/components/schemas/") not in schemas] == []


async def test_the_methods_are_listed(api: Api) -> None:
    listed = (await api[Role.VIEWER].get("/api/v1/methods")).json()["data"]
    assert [view["info"]["method"] for view in listed] == list(METHODS)
