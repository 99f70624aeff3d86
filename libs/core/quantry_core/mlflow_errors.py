"""Errors in MLflow's shape, for the paths under /mlflow that its clients call. A problem document says the same under /api/v1.

Pure: the registry that answers and the gateway before it take status and code from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import PROBLEM_TYPE_PREFIX, Problem

MLFLOW_PREFIX = "/mlflow/"
"""Paths that begin so are answered in MLflow's shape, their errors included."""

NO_SUCH_ADDRESS = "no-such-address"
"""Slug of a path that no route has. Elsewhere that is not-found, as everything that is not there."""

_BY_SLUG: Final[Mapping[str, str]] = {
    "model-exists": "RESOURCE_ALREADY_EXISTS",
    "not-offered": "FEATURE_DISABLED",
    NO_SUCH_ADDRESS: "ENDPOINT_NOT_FOUND",
}
"""Slugs that MLflow has a word of its own for."""
_BY_STATUS: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "BAD_REQUEST",
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "RESOURCE_DOES_NOT_EXIST",
    HTTPStatus.METHOD_NOT_ALLOWED: "BAD_REQUEST",
    HTTPStatus.REQUEST_TIMEOUT: "BAD_REQUEST",
    HTTPStatus.CONFLICT: "RESOURCE_CONFLICT",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "BAD_REQUEST",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "BAD_REQUEST",
    HTTPStatus.UNPROCESSABLE_ENTITY: "INVALID_PARAMETER_VALUE",
    HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
}
_INTERNAL = "INTERNAL_ERROR"


class MlflowErrorBody(BaseModel):
    """The body of an error. ``error_code`` is stable: MLflow's clients raise by it."""

    model_config = ConfigDict(frozen=True)

    error_code: str = Field(description="One of MLflow's codes, such as RESOURCE_DOES_NOT_EXIST.")
    message: str


def is_mlflow_path(path: str | None) -> bool:
    """Tells whether a path is answered in MLflow's shape."""
    return path is not None and path.startswith(MLFLOW_PREFIX)


def mlflow_status(problem: Problem) -> int:
    """Returns the HTTP status that MLflow's own server has for one of ours: what is not valid, or there already, is 400 there."""
    is_said_by_400 = problem.status == HTTPStatus.UNPROCESSABLE_ENTITY or problem.type == f"{PROBLEM_TYPE_PREFIX}model-exists"
    return HTTPStatus.BAD_REQUEST if is_said_by_400 else problem.status


def mlflow_error(problem: Problem) -> MlflowErrorBody:
    """Returns what a problem document says in MLflow's shape."""
    slug = problem.type.removeprefix(PROBLEM_TYPE_PREFIX)
    return MlflowErrorBody(error_code=_BY_SLUG.get(slug) or _BY_STATUS.get(problem.status, _INTERNAL), message=problem.detail)
