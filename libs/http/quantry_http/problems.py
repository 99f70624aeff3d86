"""Every error a service answers is a problem document (RFC 9457), or OpenAI's error object under /v1; this is the one place that
writes them.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from quantry_core.errors import (
    PROBLEM_CONTENT_TYPE,
    PROBLEM_TYPE_PREFIX,
    BodyStalled,
    Forbidden,
    IdempotencyKeyInFlight,
    NotFound,
    Problem,
    QuantryError,
    RangeNotSatisfiable,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from quantry_core.mlflow_errors import NO_SUCH_ADDRESS, is_mlflow_path, mlflow_error, mlflow_status
from quantry_core.openai_errors import is_openai_path, openai_error, openai_status
from quantry_http.validation import explain_validation

RETRY_AFTER_S = 2
"""What a 503 asks a client to wait, in seconds."""
IN_FLIGHT_RETRY_AFTER_S = 1
"""What a request is asked to wait whose Idempotency-Key is another's just now, in seconds."""

_UNPARSED = "There was an error parsing the body"
"""FastAPI's words for whatever goes wrong there."""

_log = structlog.get_logger(__name__)


class MalformedRequest(QuantryError):
    status = 400
    slug = "malformed-request"
    title = "The request cannot be read"


class MethodNotAllowed(QuantryError):
    status = 405
    slug = "method-not-allowed"
    title = "This address does not take that method"


class UnsupportedMediaType(QuantryError):
    status = 415
    slug = "unsupported-media-type"
    title = "A body of that kind is not taken"


_BY_STATUS: dict[int, type[QuantryError]] = {
    error.status: error
    for error in (
        MalformedRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        BodyStalled,
        TooLarge,
        UnsupportedMediaType,
        RangeNotSatisfiable,
        Unavailable,
    )
}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Returns the HTTP answer for a problem; a 401 and a 503 get the header that belongs to them.

    Its ``instance`` tells the shape: a path under /v1 is answered as OpenAI does, one under /mlflow as MLflow does, every other with
    the problem document.
    """
    extra = dict(headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        extra.setdefault("WWW-Authenticate", "Bearer")
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S))
    if is_openai_path(problem.instance):
        return Response(
            _json_body(openai_error(problem)), status_code=openai_status(problem.status), headers=extra, media_type="application/json"
        )
    if is_mlflow_path(problem.instance):
        return Response(_json_body(mlflow_error(problem)), status_code=mlflow_status(problem), headers=extra, media_type="application/json")
    return Response(_json_body(problem), status_code=problem.status, headers=extra, media_type=PROBLEM_CONTENT_TYPE)


def _json_body(document: BaseModel) -> bytes:
    # ASCII, because a message may quote what a client sent, lone surrogates included.
    return json.dumps(document.model_dump(mode="python"), ensure_ascii=True).encode("ascii")


def internal_problem(instance: str, request_id: str) -> Problem:
    """Returns what a caller is told when something unexpected broke: where to look, nothing of what is inside."""
    detail = f"an unexpected error happened; the service's log has it under request id {request_id}"
    return QuantryError(detail).problem(instance)


def install_problem_handlers(app: FastAPI) -> None:
    """Makes expected errors, framework errors and validation errors of ``app`` answer problem documents."""
    app.add_exception_handler(QuantryError, on_quantry_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the ``responses`` entry that documents these statuses as problem documents.

    By reference: FastAPI would prepare a model anew for each status of each route, which was half of what a service's app took to build.
    """
    content = {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


async def on_quantry_error(request: Request, error: Exception) -> Response:
    """Returns the answer for an expected error; raises one that is not meant for callers again."""
    if not isinstance(error, QuantryError):
        raise error
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Unavailable):
        # Not meant for callers: the request context logs it and answers a 500 that says nothing of the inside.
        raise error
    if isinstance(error, Unavailable):
        # One line, no traceback: while a part is away there is one of these for every request.
        _log.warning("unavailable", detail=error.detail, cause=repr(error.__cause__))
    return problem_response(error.problem(request.url.path), _retry_after(error))


def _retry_after(error: QuantryError) -> dict[str, str] | None:
    match error:
        case IdempotencyKeyInFlight():
            return {"Retry-After": str(IN_FLIGHT_RETRY_AFTER_S)}
        case TooManyRequests():
            return {"Retry-After": str(error.retry_after_s)}
        case _:
            return None


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router names the methods of the first route that fits the path; there is one route for each method.
        error = HTTPException(error.status_code, error.detail, {"Allow": ", ".join(_methods_at(request))})
    known = _BY_STATUS.get(error.status_code)
    if known is None:
        phrase = HTTPStatus(error.status_code).phrase
        slug = phrase.lower().replace(" ", "-")
        problem = Problem(type=PROBLEM_TYPE_PREFIX + slug, title=phrase, status=error.status_code, detail=str(error.detail), instance=path)
    else:
        problem = known(_words(error, request.method, path)).problem(path)
        if is_mlflow_path(path) and error.status_code == HTTPStatus.NOT_FOUND:
            # MLflow's clients tell an address that is not there from a thing that is not.
            problem = problem.model_copy(update={"type": PROBLEM_TYPE_PREFIX + NO_SUCH_ADDRESS})
    return problem_response(problem, dict(error.headers or {}))


def _methods_at(request: Request) -> list[str]:
    """Returns the methods of an address: of the path with the fewest parameters that fits it, as /jobs/estimate is no job's id."""
    path = request.scope["path"]
    matching = [route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(path)]
    fewest = min((len(route.param_convertors) for route in matching), default=0)
    return sorted({method for route in matching if len(route.param_convertors) == fewest for method in route.methods or ()})


def _words(error: HTTPException, method: str, path: str) -> str:
    detail = str(error.detail)
    if detail == _UNPARSED:
        return _why_unparsed(error.__cause__)
    if detail != HTTPStatus(error.status_code).phrase:
        return detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {path}"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{path} does not take {method}; it takes {allowed}" if allowed else f"{path} does not take {method}"
    return detail


def _why_unparsed(cause: BaseException | None) -> str:
    match cause:
        case RecursionError():
            return "the body is not JSON that is read here: it is nested too deeply"
        case UnicodeDecodeError():
            return "the body is not JSON: it is no UTF-8"
        case ValueError():
            return f"the body is not JSON that is read here: it has a number of more than {sys.get_int_max_str_digits()} digits"
        case _:
            return "the body cannot be read"


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    if request.method not in _methods_at(request):
        # DELETE /versions/compare: a version has that method, and "compare" is none.
        return await _on_http_exception(request, HTTPException(HTTPStatus.METHOD_NOT_ALLOWED))
    return problem_response(explain_validation(error.errors(), error.body).problem(request.url.path))
