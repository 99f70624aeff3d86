"""A clean OpenAPI document: operation ids are the endpoints' names, errors are documented as problem documents, under /v1 as OpenAI's
error objects.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from quantry_core.errors import PROBLEM_CONTENT_TYPE
from quantry_core.openai_errors import OpenAIErrorBody, is_openai_path, openai_status

_SCHEMAS = "#/components/schemas/"


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
            _name_openai_errors(document)
        return super().openapi()


def _name_problem_content(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status.isdigit() and int(status) >= 400 and "content" in response:
            # FastAPI lists an error under the content type of the endpoint's success.
            response["content"] = {PROBLEM_CONTENT_TYPE: next(iter(response["content"].values()))}


def _name_openai_errors(document: dict[str, Any]) -> None:
    operations = [one for path, ones in document["paths"].items() if is_openai_path(path) for one in ones.values()]
    if not operations:
        return
    content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{OpenAIErrorBody.__name__}"}}}
    for operation in operations:
        answers: dict[str, Any] = operation["responses"]
        for status in [int(one) for one in answers if one.isdigit() and int(one) >= 400]:
            description = answers.pop(str(status))["description"]
            answers.setdefault(str(openai_status(status)), {"description": description, "content": content})
    schema = OpenAIErrorBody.model_json_schema(ref_template=_SCHEMAS + "{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs"), OpenAIErrorBody.__name__: schema}
