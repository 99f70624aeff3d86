"""How webhooks are signed and checked: Standard Webhooks, version 1 with a shared secret.

What is signed is ``<webhook-id>.<webhook-timestamp>.<body>``, by HMAC-SHA256 in base64; the ``webhook-signature`` field holds
one ``v1,<signature>`` for each secret that is valid, with spaces between. https://github.com/standard-webhooks/standard-webhooks
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
MIN_SECRET_BYTES: Final = 24
MAX_SECRET_BYTES: Final = 64
VERSION: Final = "v1"

ID_FIELD: Final = "webhook-id"
TIMESTAMP_FIELD: Final = "webhook-timestamp"
SIGNATURE_FIELD: Final = "webhook-signature"

DEFAULT_TOLERANCE_S: Final = 300.0
MAX_SIGNATURES: Final = 16
"""Of one message, looked at by a receiver; a sender has two while a secret is exchanged."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class BadSignature(ValueError):
    """A message that is not to be believed; the text says why, and quotes neither secret nor signature."""


class SignedMessage(NamedTuple):
    """What the fields of a message that was checked say."""

    id: str
    """The same each time the message is sent: whoever must not act twice remembers it."""
    sent_at_s: int
    """Unix seconds of this sending."""


def new_secret() -> str:
    """Returns a fresh secret: ``whsec_`` and 256 random bits as base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """Returns the key that a secret stands for; raises ValueError, quoting nothing of it, where it stands for none."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a webhook's secret is {SECRET_PREFIX} and base64 behind it") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(f"a webhook's secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, this one has {len(key)}")
    return key


def sign(secret: str, message_id: str, sent_at_s: int, body: bytes) -> str:
    """Returns ``v1,<signature>`` of a message that is sent at ``sent_at_s``, in Unix seconds."""
    content = b"%s.%d.%s" % (message_id.encode(), sent_at_s, body)
    return f"{VERSION}," + base64.b64encode(hmac.new(secret_bytes(secret), content, hashlib.sha256).digest()).decode()


def signed_fields(valid_secrets: Sequence[str], message_id: str, sent_at_s: int, body: bytes) -> dict[str, str]:
    """Returns the three fields of a message, with a signature for each of the secrets."""
    signatures = " ".join(sign(secret, message_id, sent_at_s, body) for secret in valid_secrets)
    return {ID_FIELD: message_id, TIMESTAMP_FIELD: str(sent_at_s), SIGNATURE_FIELD: signatures}


def check(secret: str, fields: Mapping[str, str], body: bytes, *, now_s: float, tolerance_s: float = DEFAULT_TOLERANCE_S) -> SignedMessage:
    """Returns what a message's fields say once one of its signatures is right and it was sent within ``tolerance_s`` of ``now_s``.

    ``fields`` are the request's header fields, names in any case; ``body`` are the bytes as they came. Raises BadSignature, ValueError
    for a secret that is none.
    """
    named = {name.lower(): value for name, value in fields.items()}
    missing = [name for name in (ID_FIELD, TIMESTAMP_FIELD, SIGNATURE_FIELD) if not named.get(name)]
    if missing:
        raise BadSignature(f"the request has no {', '.join(missing)}")
    message_id, timestamp = named[ID_FIELD], named[TIMESTAMP_FIELD]
    if _ID.fullmatch(message_id) is None or _TIMESTAMP.fullmatch(timestamp) is None:
        raise BadSignature(f"{ID_FIELD} or {TIMESTAMP_FIELD} is not what a sender writes")
    sent_at_s = int(timestamp)
    expected = sign(secret, message_id, sent_at_s, body).encode()
    offered = named[SIGNATURE_FIELD].split(" ")[:MAX_SIGNATURES]
    # The time first would tell a stranger more than that the signature is wrong.
    if not any([hmac.compare_digest(expected, one.encode()) for one in offered]):
        raise BadSignature("no signature of the request is that of this secret and body")
    if abs(now_s - sent_at_s) > tolerance_s:
        raise BadSignature(
            f"the message was sent {now_s - sent_at_s:.0f} s ago, more than {tolerance_s:g} s: it may be one that is sent again"
        )
    return SignedMessage(message_id, sent_at_s)
