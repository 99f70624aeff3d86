"""For receivers of webhooks: is this message from Quantry, and has it been here before?

    import quantry.webhooks

    message = quantry.webhooks.verify(request.body, request.headers, secret)

Any library of Standard Webhooks does the same; this one needs no more than the SDK.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock

from pydantic import ValidationError

from quantry_core.webhook_signatures import DEFAULT_TOLERANCE_S, BadSignature, check
from quantry_core.webhooks import WebhookMessage

__all__ = ["BadSignature", "Replayed", "SeenMessages", "WebhookMessage", "verify"]

MAX_SEEN = 100_000


class Replayed(BadSignature):
    """The message is Quantry's, and was taken before: answer 2xx and do nothing."""


class SeenMessages:
    """Remembers the ids of messages for as long as their signatures are good, in this process. Receivers that run as several processes,
    or act on what they get much later, remember ``webhook-id`` in their own database instead."""

    def __init__(self, *, keep_s: float = 2 * DEFAULT_TOLERANCE_S, max_ids: int = MAX_SEEN) -> None:
        """``keep_s``: at least twice the tolerance, as clocks may differ to either side. More than ``max_ids`` forgets the oldest."""
        self._keep_s = keep_s
        self._max_ids = max_ids
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def is_new(self, message_id: str, now_s: float) -> bool:
        """Tells whether an id comes for the first time, and remembers it from now on."""
        with self._lock:
            while self._seen and (len(self._seen) > self._max_ids or next(iter(self._seen.values())) < now_s - self._keep_s):
                self._seen.popitem(last=False)
            is_new = message_id not in self._seen
            # Also where it came before: each sending has a signature of its own, and is good for as long.
            self._seen[message_id] = now_s
            self._seen.move_to_end(message_id)
            return is_new


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_s: float = DEFAULT_TOLERANCE_S,
    seen: SeenMessages | None = None,
    now_s: float | None = None,
) -> WebhookMessage:
    """Returns a message once its signature, its time and, with ``seen``, its id are good.

    ``body`` must be the bytes as they came: JSON that was read and written again has another signature. ``secret`` is the one that
    was shown, or several while it is exchanged. ``tolerance_s``: how far the sending may lie from ``now_s``, in Unix seconds, by
    default this machine's clock. Raises BadSignature for a message that is not to be believed, Replayed for one that ``seen`` knows;
    ValueError for a secret that is none.
    """
    raw = body.encode() if isinstance(body, str) else body
    moment_s = time.time() if now_s is None else now_s
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets:
        raise ValueError("at least one secret is needed")
    refusal: BadSignature | None = None
    for one in secrets:
        try:
            signed = check(one, headers, raw, now_s=moment_s, tolerance_s=tolerance_s)
        except BadSignature as error:
            refusal = refusal or error
            continue
        try:
            message = WebhookMessage.model_validate_json(raw)
        except ValidationError as error:
            raise BadSignature("the message is signed, but no message of format json") from error
        if seen is not None and not seen.is_new(signed.id, moment_s):
            raise Replayed(f"message {signed.id} was here before")
        return message
    raise refusal or BadSignature("no secret was given")
