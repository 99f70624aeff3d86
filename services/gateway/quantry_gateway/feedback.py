"""``POST /v1/feedback``: what the reader of an answer thinks of it, as evidence of the release that gave it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from quantry_core.routes import RoutedKey
from quantry_gateway.answered import Answers, AnswerUnknown, FeedbackSettled
from quantry_gateway.exchange import Answer, BodyTooLarge, Request
from quantry_gateway.headers import header_value
from quantry_gateway.openai_errors import OpenAIError, body_too_large

PATH = "/v1/feedback"
MAX_BODY_BYTES = 16 * 1024


class FeedbackRequest(BaseModel):
    """One word on one answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=256, description="The answer's own id (chatcmpl-..., cmpl-...), or its X-Request-Id.")
    approves: StrictBool = Field(description="Whether the answer was good.")


class AnswerFeedback:
    """Takes feedback from those who may call models, on the answers of their own project."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def answer(self, request: Request, answer: Answer, key: RoutedKey) -> None:
        """Answers with the word as it was taken; raises OpenAIError."""
        length = header_value(request.headers, b"content-length")
        declared_bytes = int(length) if length is not None and length.isdigit() else None
        try:
            body = await request.body(declared_bytes=declared_bytes, max_bytes=MAX_BODY_BYTES)
        except BodyTooLarge:
            raise body_too_large(MAX_BODY_BYTES) from None
        word = read_feedback(body)
        try:
            self._answers.judge(key.project_id, word.id, approves=word.approves)
        except AnswerUnknown:
            raise answer_not_found(word.id) from None
        except FeedbackSettled:
            raise feedback_settled(word.id) from None
        await answer.json({"object": "feedback", "id": word.id, "approves": word.approves})


def read_feedback(body: bytes) -> FeedbackRequest:
    """Returns what a body says; raises OpenAIError that names the field which is wrong."""
    try:
        return FeedbackRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else None
        what = f"{field}: {first['msg']}" if field else first["msg"]
        message = f'Feedback is {{"id": <id of an answer>, "approves": true or false}}; {what}.'
        raise OpenAIError(400, "invalid_feedback", message, param=field) from None


def answer_not_found(answer_id: str) -> OpenAIError:
    """Nobody in this project got such an answer from this gateway, or it was long ago."""
    message = f"No answer with the id {answer_id[:80]!r} is remembered here; feedback is taken on the latest answers of the key's project."
    return OpenAIError(404, "answer_not_found", message, param="id")


def feedback_settled(answer_id: str) -> OpenAIError:
    """The other word on this answer has been counted."""
    message = f"The feedback on {answer_id[:80]!r} has been counted already; it can no longer be changed."
    return OpenAIError(409, "feedback_settled", message, param="approves")
