"""Says no in the words of the path that was asked: OpenAI's under /v1, MLflow's under /mlflow, a problem document elsewhere."""

from __future__ import annotations

from http import HTTPStatus

from quantry_core.errors import QuantryError
from quantry_core.mlflow_errors import MLFLOW_PREFIX, mlflow_error, mlflow_status
from quantry_core.openai_errors import OPENAI_PREFIX, openai_error, openai_status
from quantry_gateway.exchange import Answer, Request
from quantry_gateway.openai_errors import OpenAIError

_TOKENIZER_PATHS = frozenset({b"/tokenize", b"/detokenize"})
"""vLLM's, of the data plane though not under /v1."""


async def refuse(request: Request, answer: Answer, error: QuantryError, *, retry_after_s: int) -> None:
    """Answers a request with an error; a 503 asks to come again after ``retry_after_s`` seconds."""
    retry_s = retry_after_s if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    # The path as it was sent: a spelling that decodes to /v1/ is refused with a problem document.
    if request.raw_path.startswith(OPENAI_PREFIX.encode()) or request.raw_path in _TOKENIZER_PATHS:
        said = openai_error(error.problem()).error
        status = openai_status(error.status)
        await OpenAIError(status, said.code, said.message, type=said.type, param=said.param, retry_after_s=retry_s).send(answer)
    elif request.raw_path.startswith(MLFLOW_PREFIX.encode()):
        problem = error.problem()
        fields = [(b"content-type", b"application/json")]
        if retry_s is not None:
            fields.append((b"retry-after", b"%d" % retry_s))
        await answer.whole(mlflow_status(problem), fields, mlflow_error(problem).model_dump_json().encode())
    else:
        await answer.problem(error, instance=request.path, retry_after_s=retry_s)
