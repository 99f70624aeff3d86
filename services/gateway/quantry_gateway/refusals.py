"""Says no in the words of the path that was asked: OpenAI's error object under /v1, a problem document elsewhere."""

from __future__ import annotations

from http import HTTPStatus

from quantry_core.errors import QuantryError
from quantry_gateway.exchange import Answer, Request
from quantry_gateway.openai_errors import OpenAIError

_OPENAI_PREFIX = b"/v1/"


async def refuse(request: Request, answer: Answer, error: QuantryError, *, retry_after_s: int) -> None:
    """Answers a request with an error; a 503 asks to come again after ``retry_after_s`` seconds."""
    retry_s = retry_after_s if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    if request.raw_path.startswith(_OPENAI_PREFIX):
        kind = "invalid_request_error" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        code = error.slug.replace("-", "_")
        await OpenAIError(error.status, code, error.detail, type=kind, retry_after_s=retry_s).send(answer)
    else:
        await answer.problem(error, instance=request.path, retry_after_s=retry_s)
