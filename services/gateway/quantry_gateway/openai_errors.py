"""Errors in OpenAI's words: what the data plane answers, so that OpenAI clients understand it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from quantry_gateway.exchange import Answer
from quantry_gateway.headers import RawHeaders


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


def upstream_failed(what: str) -> OpenAIError:
    """Every replica that was tried failed, or the one that had begun to answer broke off."""
    return OpenAIError(502, "upstream_failed", f"The engine behind this deployment failed: {what}.", type="server_error")


def upstream_timeout(idle_s: float) -> OpenAIError:
    """A replica took the request and then said nothing."""
    return OpenAIError(504, "upstream_timeout", f"The engine sent nothing for {idle_s:g} seconds.", type="server_error")


def shutting_down(retry_after_s: int | None = None) -> OpenAIError:
    """The gateway stops before the answer was complete."""
    message = "The gateway is shutting down; send the request again."
    return OpenAIError(503, "shutting_down", message, type="server_error", retry_after_s=retry_after_s)
