"""ID tokens: whether one was signed by the provider, for this installation, just now, for this very sign-in.

OpenID Connect Core 1.0, section 3.1.3.7, is the list of what is looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import ValidationError

from quantry_api.sessions.settings import OidcSettings
from quantry_core.errors import Unauthorized, Unavailable
from quantry_core.oidc import ALGORITHMS, MAX_DOCUMENT_BYTES, ProviderMetadata, ProviderRefused, check_metadata, discovery_address

TIMEOUT_S = 5.0
DOCUMENT_TIMEOUT_S = 10.0
KEYS_KEPT_S = 3600.0
"""How long a provider's keys are used before they are asked for again."""
KEYS_ASKED_EVERY_S = 10.0
"""A token may name a key that is not known: then the keys are asked for again, but no more often."""

_NO_TOKEN = (JoseError, ValueError, TypeError)
"""What is raised for something that is no good token. TypeError: joserfc does not look at what a header's ``crit`` is made of."""

_log = structlog.get_logger(__name__)


class IdTokens:
    """Verifies tokens of one provider. Its keys are kept, and asked for again when a token names one that is new."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """``settings`` have an issuer. ``transport`` takes the place of the network, ``now_s`` (seconds since 1970) of the clock."""
        if settings.issuer is None or settings.client_id is None:
            raise ValueError("tokens of no issuer cannot be verified")
        self._settings = settings
        self._issuer, self._client_id = settings.issuer, settings.client_id
        # No proxy of the environment and no redirect: whom to believe is said by nobody on the way.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, transport=transport)
        self._clock_s = clock_s
        self._now_s = now_s
        self._lock = asyncio.Lock()
        self._keys: KeySet | None = None
        self._keys_at_s = 0.0

    async def verify(self, id_token: str, nonce: str) -> dict[str, Any]:
        """Returns the claims of a good token.

        Raises Unauthorized for any other, without saying more than who made it may know; Unavailable where the provider is away, and
        ProviderRefused where it cannot be believed.
        """
        claims = await self._signed_claims(id_token)
        now = int(self._now_s())
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=self._settings.leeway_s,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise Unauthorized(f"this ID token is not taken: {_words(error)}") from None
        self._check_rest(claims, nonce, now)
        return claims

    def _check_rest(self, claims: Mapping[str, Any], nonce: str, now: int) -> None:
        if claims["iss"] != self._issuer or claims["nonce"] != nonce:
            raise Unauthorized("this ID token is not taken: its issuer or its nonce is another")
        audience, party = claims["aud"], claims.get("azp")
        if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in {None, self._client_id}:
            raise Unauthorized("this ID token is not taken: it was made for another party (azp)")
        if now - int(claims["iat"]) > self._settings.max_token_age_s + self._settings.leeway_s:
            raise Unauthorized("this ID token is not taken: it was signed too long ago; begin the sign-in again")
        if not claims["sub"]:
            raise Unauthorized("this ID token is not taken: it says of nobody who it is (sub)")

    async def _signed_claims(self, id_token: str) -> dict[str, Any]:
        began_s = self._clock_s()
        try:
            return self._decoded(id_token, await self._known_keys())
        except _NO_TOKEN:
            # The provider may have begun to sign with another key.
            newer = await self._newer_keys(began_s)
        if newer is None:
            raise Unauthorized("this ID token is not taken: its signature is not the provider's")
        try:
            return self._decoded(id_token, newer)
        except _NO_TOKEN:
            raise Unauthorized("this ID token is not taken: its signature is not the provider's") from None

    @staticmethod
    def _decoded(id_token: str, keys: KeySet) -> dict[str, Any]:
        return dict(jwt.decode(id_token, keys, algorithms=list(ALGORITHMS)).claims)

    async def _known_keys(self) -> KeySet:
        async with self._lock:
            if self._keys is None or self._clock_s() - self._keys_at_s > KEYS_KEPT_S:
                return await self._read_keys()
            return self._keys

    async def _newer_keys(self, began_s: float) -> KeySet | None:
        """Returns keys that are newer than those a question began with; None where they were asked for only just now."""
        async with self._lock:
            if self._keys_at_s < began_s and self._clock_s() - self._keys_at_s < KEYS_ASKED_EVERY_S:
                return None
            if self._keys_at_s < began_s:
                await self._read_keys()
            return self._keys

    async def _read_keys(self) -> KeySet:
        try:
            metadata = ProviderMetadata.model_validate_json(await self._get(discovery_address(self._issuer)))
            check_metadata(metadata, self._issuer)
            document = httpx.Response(200, content=await self._get(metadata.jwks_uri)).json()
            keys = KeySet.import_key_set(
                {"keys": [key for key in document["keys"] if key.get("use", "sig") == "sig" and key["kty"] != "oct"]}
            )
        except (ValidationError, JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("oidc.provider_refused", issuer=self._issuer, error=type(error).__name__)
            raise ProviderRefused(f"what the provider at {self._issuer} says of itself or of its keys cannot be read") from error
        self._keys, self._keys_at_s = keys, self._clock_s()
        return keys

    async def _get(self, address: str) -> bytes:
        try:
            # The whole of it: httpx counts the time between two pieces alone, and everybody's sign-in waits for this one.
            async with asyncio.timeout(DOCUMENT_TIMEOUT_S), self._client.stream("GET", address) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise Unavailable(f"the provider answers {answer.status_code} for {address}")
                content = b""
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MAX_DOCUMENT_BYTES:
                        raise ProviderRefused(f"what the provider says at {address} is larger than {MAX_DOCUMENT_BYTES} bytes")
                return content
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"the sign-in provider does not answer at {address}") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def signed_digest(id_token: str) -> str:
    """Returns the SHA-256 in hex of what was signed of a token, its header and its claims: what a used token is known by.

    The signature is left out: of ECDSA's anybody can make a second one that is as good, and the token would be another.
    """
    return hashlib.sha256(id_token.rpartition(".")[0].encode()).hexdigest()


def _words(error: JoseError) -> str:
    """Returns what is wrong with a token's claims: which claim, and how."""
    kind = {"expired_token": "it has expired", "missing_claim": "it lacks a claim"}.get(error.error, "a claim of it is another")
    claim = getattr(error, "claim", None)
    return f"{kind} ({claim})" if claim else kind
