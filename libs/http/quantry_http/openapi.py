"""A clean OpenAPI document: operation ids are the endpoints' names, errors are documented as problem documents, under /v1 as OpenAI's
error objects, under /mlflow as MLflow's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi.encoders import jsonable_encoder
from fastapi.routing import APIRoute

from quantry_core.errors import PROBLEM_CONTENT_TYPE, Problem
from quantry_core.mlflow_errors import MlflowErrorBody, is_mlflow_path
from quantry_core.openai_errors import OpenAIErrorBody, is_openai_path, openai_status
from quantry_core.permissions import ANYONE
from quantry_http.auth import GuardedApp

_SCHEMAS = "#/components/schemas/"
_PARAMETER = re.compile(r"\{([a-z_]+)\}")


def operation_id(route: APIRoute) -> str:
    """Returns an endpoint's operation id: the name of its function."""
    return route.name


class DocumentedApp(GuardedApp):
    """A guarded app whose document lists problems under their own content type."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document; built once, at the first request."""
        if self.openapi_schema is None:
            document = super().openapi()
            _describe_problems(document)
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if "requestBody" in operation:
                        operation["responses"].setdefault("400", _problem("The body cannot be read."))
                        operation["responses"].setdefault("413", _problem("The body is too large."))
                    _name_problem_content(operation)
                    if self.permissions.get((method.upper(), path)) is ANYONE:
                        operation["security"] = []
            _name_openai_errors(document)
            _name_mlflow_errors(document)
            _ask_for_discriminators(document)
            _unite_paths(document)
        return super().openapi()


def _describe_problems(document: dict[str, Any]) -> None:
    """Adds what ``problem_responses`` refers to."""
    # As FastAPI lists them: without a default of null, by their names.
    described = jsonable_encoder(Problem.model_json_schema(ref_template=_SCHEMAS + "{model}", mode="serialization"), exclude_none=True)
    components = document.setdefault("components", {})
    schemas = components.get("schemas", {}) | described.pop("$defs", {}) | {Problem.__name__: described}
    components["schemas"] = dict(sorted(schemas.items()))


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{Problem.__name__}"}}}}


def _ask_for_discriminators(document: dict[str, Any]) -> None:
    """Has each object of a union name its kind. Pydantic needs it there, but leaves a field with a default out of what is required."""
    schemas = document["components"]["schemas"]
    for union in _unions(document):
        for reference in union["mapping"].values():
            schema = schemas[reference.removeprefix(_SCHEMAS)]
            needed = schema.setdefault("required", [])
            if union["propertyName"] not in needed:
                needed.insert(0, union["propertyName"])


def _unite_paths(document: dict[str, Any]) -> None:
    """Gives paths that differ by the names of their parameters alone the names of the first: to OpenAPI they are one path."""
    united: dict[str, str] = {}
    for path, operations in list(document["paths"].items()):
        first = united.setdefault(_PARAMETER.sub("{}", path), path)
        if first == path:
            continue
        del document["paths"][path]
        names = dict(zip(_PARAMETER.findall(path), _PARAMETER.findall(first), strict=True))
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["name"] = names[parameter["name"]]
            if document["paths"][first].setdefault(method, operation) is not operation:
                raise ValueError(f"{method.upper()} {path} and {first} are one address with two endpoints")


def _unions(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("discriminator"), dict):
            yield value["discriminator"]
        for item in value.values():
            yield from _unions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _unions(item)


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


def _name_mlflow_errors(document: dict[str, Any]) -> None:
    operations = [one for path, ones in document["paths"].items() if is_mlflow_path(path) for one in ones.values()]
    if not operations:
        return
    content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{MlflowErrorBody.__name__}"}}}
    for operation in operations:
        answers: dict[str, Any] = operation["responses"]
        for status in [int(one) for one in answers if one.isdigit() and int(one) >= 400]:
            description = answers.pop(str(status))["description"]
            # What is not valid is 400 there, as at OpenAI.
            answers.setdefault(str(openai_status(status)), {"description": description, "content": content})
    document["components"]["schemas"][MlflowErrorBody.__name__] = MlflowErrorBody.model_json_schema()
