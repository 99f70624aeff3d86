"""Errors in OpenAI's words: what the data plane answers, so that OpenAI clients understand it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from quantry_gateway.exchange import Answer
from quantry_gateway.headers import RawHeaders

VARIANT_FIELD = "x-quantry-variant"
TIMEOUT_FIELD = "x-request-timeout-s"


@dataclass(eq=False)
class OpenAIError(Exception):
    """One refusal. ``code`` is stable: programs may switch on it."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    retry_after_s: int | None = None

    def body(self) -> bytes:
        """Returns the JSON error object."""
        fields = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": fields}, separators=(",", ":")).encode()

    def event(self) -> bytes:
        """Returns the error object as one server-sent event."""
        return b"data: " + self.body() + b"\n\n"

    async def send(self, answer: Answer) -> None:
        """Answers a request with this error."""
        headers: RawHeaders = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        await answer.whole(self.status, headers, self.body())


def invalid_api_key() -> OpenAIError:
    """No key, or one that nobody has."""
    return OpenAIError(401, "invalid_api_key", "A valid API key is needed: send it as 'Authorization: Bearer <key>'.")


def expired_api_key() -> OpenAIError:
    """A key that was good until its time was over."""
    return OpenAIError(401, "expired_api_key", "This API key has expired: ask an admin of the project to rotate it, or for another.")


def key_not_allowed(role: str) -> OpenAIError:
    """A machine's key: it opens one door, and not this one."""
    return OpenAIError(403, "key_not_allowed", f"A key of role {role} may not call models; use a viewer, operator or admin key.")


def model_not_found(name: str) -> OpenAIError:
    """There is neither a deployment nor an adapter of that name in the key's project."""
    message = f"There is no deployment and no adapter named {name[:80]!r} in this project; GET /v1/models lists the ones there are."
    return OpenAIError(404, "model_not_found", message, param="model")


def unknown_url(method: str, path: str) -> OpenAIError:
    """Nothing answers there."""
    return OpenAIError(404, "unknown_url", f"There is nothing at {method} {path[:120]}.")


def method_not_allowed(method: str, allowed: str) -> OpenAIError:
    """The path is right, the method is not."""
    return OpenAIError(405, "method_not_allowed", f"{method} is not answered here; use {allowed}.")


def not_json(why: str) -> OpenAIError:
    """The body is not a JSON object."""
    return OpenAIError(400, "invalid_json", f"The body must be a JSON object: {why}.")


def compressed(coding: str) -> OpenAIError:
    """The body is compressed, so that nothing of it can be read."""
    return OpenAIError(415, "unsupported_encoding", f"The body must be sent as it is, without Content-Encoding: {coding[:40]}.")


def missing_model() -> OpenAIError:
    """The body names no model."""
    return OpenAIError(400, "missing_model", "The body must name a deployment or an adapter as the string 'model'.", param="model")


def body_too_large(max_bytes: int) -> OpenAIError:
    """The body has more bytes than the gateway takes."""
    return OpenAIError(413, "request_too_large", f"The body has more than the {max_bytes} bytes this gateway takes.")


def routes_unknown(retry_after_s: int) -> OpenAIError:
    """The gateway has just begun and never learnt a route."""
    message = "The gateway has not learnt its routes yet; try again shortly."
    return OpenAIError(503, "routes_unknown", message, type="server_error", retry_after_s=retry_after_s)


def no_replica_ready(name: str, retry_after_s: int) -> OpenAIError:
    """The deployment exists, but nothing serves it now."""
    message = f"No replica of {name!r} is ready; try again shortly."
    return OpenAIError(503, "no_replica_ready", message, type="server_error", param="model", retry_after_s=retry_after_s)


def unknown_variant(wanted: str, known: Sequence[str]) -> OpenAIError:
    """The request asks for a variant that the deployment has not."""
    names = ", ".join(known) or "none"
    message = f"There is no variant {wanted[:80]!r} of this deployment now; x-quantry-variant may name one of these: {names}."
    return OpenAIError(400, "unknown_variant", message, param=VARIANT_FIELD)


def variant_not_ready(wanted: str, retry_after_s: int) -> OpenAIError:
    """The variant that the request asks for has no replica that answers."""
    message = f"No replica of the variant {wanted[:80]!r} is ready; try again shortly, or leave x-quantry-variant out."
    return OpenAIError(503, "variant_not_ready", message, type="server_error", param=VARIANT_FIELD, retry_after_s=retry_after_s)


def nothing_answers(name: str, retry_after_s: int) -> OpenAIError:
    """Every replica failed lately: none is asked until one has had time to recover."""
    message = f"Every replica of {name!r} failed lately; try again shortly."
    return OpenAIError(503, "no_replica_answers", message, type="server_error", param="model", retry_after_s=retry_after_s)


def queue_full(name: str, retry_after_s: int) -> OpenAIError:
    """Replicas have all they may have at once, and as many requests wait as may."""
    message = f"{name!r} has all the requests it can take, and as many wait for it as may; try again shortly."
    return OpenAIError(429, "queue_full", message, type="rate_limit_error", retry_after_s=retry_after_s)


def waited_too_long(name: str, wait_s: float, retry_after_s: int) -> OpenAIError:
    """No replica had room in time."""
    message = f"No replica of {name!r} had room for this request within {wait_s:g} seconds; try again shortly."
    return OpenAIError(503, "queue_timeout", message, type="server_error", retry_after_s=retry_after_s)


def no_sockets(retry_after_s: int) -> OpenAIError:
    """The gateway's own process has no room for another connection."""
    message = "The gateway has as many connections as it may have; try again shortly."
    return OpenAIError(503, "gateway_full", message, type="server_error", retry_after_s=retry_after_s)


def rate_limited(retry_after_s: int) -> OpenAIError:
    """The key has had the requests or tokens of its minute."""
    message = f"This key has reached its limit of requests or tokens per minute; try again in {retry_after_s} seconds."
    return OpenAIError(429, "rate_limit_exceeded", message, type="rate_limit_error", retry_after_s=retry_after_s)


def bad_timeout(given: str) -> OpenAIError:
    """The deadline is no number of seconds."""
    message = f"{TIMEOUT_FIELD} must be a number of seconds above 0, not {given[:40]!r}."
    return OpenAIError(400, "invalid_timeout", message, param=TIMEOUT_FIELD)


def deadline_exceeded(timeout_s: float) -> OpenAIError:
    """The whole answer was not there in the time that the request or the gateway allows."""
    return OpenAIError(504, "deadline_exceeded", f"The answer was not complete within {timeout_s:g} seconds.", type="server_error")


def upstream_failed(what: str) -> OpenAIError:
    """Every replica that was tried failed, or the one that had begun to answer broke off."""
    return OpenAIError(502, "upstream_failed", f"The engine behind this deployment failed: {what}.", type="server_error")


def upstream_timeout(idle_s: float) -> OpenAIError:
    """A replica took the request and then said nothing."""
    return OpenAIError(504, "upstream_timeout", f"The engine sent nothing for {idle_s:g} seconds.", type="server_error")


def gateway_failed() -> OpenAIError:
    """A defect of the gateway, in the middle of an answer."""
    return OpenAIError(500, "internal", "The gateway could not finish this answer; its log says why.", type="server_error")


def shutting_down(retry_after_s: int | None = None) -> OpenAIError:
    """The gateway stops before the answer was complete."""
    message = "The gateway is shutting down; send the request again."
    return OpenAIError(503, "shutting_down", message, type="server_error", retry_after_s=retry_after_s)
