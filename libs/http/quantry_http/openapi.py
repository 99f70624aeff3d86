"""A clean OpenAPI document: operation ids are the endpoints' names, errors are documented as problem documents."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from quantry_core.errors import PROBLEM_CONTENT_TYPE


def operation_id(route: APIRoute) -> str:
    """Returns an endpoint's operation id: the name of its function."""
    return route.name


class DocumentedApp(FastAPI):
    """FastAPI whose document lists problems under their own content type."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document; built once, at the first request."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                for operation in path.values():
                    _name_problem_content(operation)
        return super().openapi()


def _name_problem_content(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status.isdigit() and int(status) >= 400 and "content" in response:
            # FastAPI lists an error under the content type of the endpoint's success.
            response["content"] = {PROBLEM_CONTENT_TYPE: next(iter(response["content"].values()))}
