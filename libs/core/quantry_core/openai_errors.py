"""Errors in OpenAI's shape, for the paths under /v1 that OpenAI's clients call. A problem document says the same under /api/v1.

Pure: the services that answer and the gateway before them take status, type and code from here.
"""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import PROBLEM_TYPE_PREFIX, FieldProblem, Problem

OPENAI_PREFIX = "/v1/"
"""Paths that begin so are answered in OpenAI's shape, their errors included."""

_CODES: dict[str, str] = {
    "unauthorized": "invalid_api_key",
    "key-expired": "expired_api_key",
    "too-many-requests": "rate_limit_exceeded",
}
"""Slugs that OpenAI has a word of its own for."""


class OpenAIErrorDetail(BaseModel):
    """What is wrong. ``code`` is stable: programs may switch on it."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str = Field(description="invalid_request_error or server_error.")
    param: str | None = Field(default=None, description="The bad field, where there is one.")
    code: str
    errors: list[FieldProblem] = Field(default_factory=list, description="One entry per bad field or line, where that is known.")


class OpenAIErrorBody(BaseModel):
    """The body of an error."""

    model_config = ConfigDict(frozen=True)

    error: OpenAIErrorDetail


def is_openai_path(path: str | None) -> bool:
    """Tells whether a path is answered in OpenAI's shape."""
    return path is not None and path.startswith(OPENAI_PREFIX)


def openai_status(status: int) -> int:
    """Returns the HTTP status that OpenAI's API has for one of ours: what is not valid is 400 there, never 422."""
    return HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status


def openai_error(problem: Problem) -> OpenAIErrorBody:
    """Returns what a problem document says in OpenAI's shape."""
    slug = problem.type.removeprefix(PROBLEM_TYPE_PREFIX)
    return OpenAIErrorBody(
        error=OpenAIErrorDetail(
            message=problem.detail,
            type="invalid_request_error" if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error",
            param=problem.errors[0].field or None if problem.errors else None,
            code=_CODES.get(slug, slug.replace("-", "_")),
            errors=problem.errors,
        )
    )
