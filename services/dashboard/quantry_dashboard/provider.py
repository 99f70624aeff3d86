"""Signing in by an OpenID Connect provider: the way there with PKCE, state and nonce, and the way back with a token.

OpenID Connect Core 1.0 (authorization code flow), RFC 7636 (PKCE), RFC 9207 (issuer in the answer). Whether the token is good is not
decided here: the API does, which the dashboard is a client of.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from pydantic import ValidationError

from quantry_core.oidc import MAX_DOCUMENT_BYTES, ProviderMetadata, ProviderRefused, check_metadata, discovery_address
from quantry_dashboard.settings import DashboardSettings

TIMEOUT_S = 10.0
METADATA_KEPT_S = 3600.0
PENDING_S = 600.0
"""How long somebody may take at the provider."""
MAX_PENDING = 2000
"""Sign-ins under way; beyond, the oldest is forgotten: whoever began it begins again."""
SECRET_BYTES = 32

_log = structlog.get_logger(__name__)


class SignInRefused(Exception):
    """A sign-in came to nothing. ``word`` is one of the form's sentences, ``target`` where somebody wanted to go."""

    def __init__(self, word: str, target: str) -> None:
        super().__init__(word)
        self.word = word
        self.target = target


class Begun(NamedTuple):
    """Where to send somebody, and what their browser has to bring back."""

    address: str
    browser: str


class Finished(NamedTuple):
    """What the provider said, for the API to judge."""

    id_token: str
    nonce: str
    target: str


@dataclass(frozen=True)
class _Pending:
    browser: str
    nonce: str
    verifier: str
    target: str
    begun_at_s: float


class Provider:
    """One provider, and the sign-ins under way. They are kept in this process, under their state, and each is good once."""

    def __init__(
        self,
        settings: DashboardSettings,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """``settings`` have an issuer. ``transport`` takes the place of the network."""
        if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.oidc_redirect_url is None:
            raise ValueError("a provider needs an issuer, a client's id and the address to come back to")
        self.name = settings.oidc_name
        self._issuer, self._client_id = settings.oidc_issuer, settings.oidc_client_id
        self._secret = settings.oidc_client_secret
        self._redirect_url = settings.oidc_redirect_url
        self._scopes = settings.oidc_scopes
        self._clock_s = clock_s
        self._transport = transport
        self._pending: dict[str, _Pending] = {}
        self._metadata: ProviderMetadata | None = None
        self._metadata_at_s = 0.0

    async def begin(self, target: str, browser: str | None) -> Begun:
        """Returns where the sign-in goes on. ``browser``: what the browser brought from an earlier one; several tabs may sign in at once.

        Raises SignInRefused where the provider does not answer.
        """
        metadata = await self._described(target)
        known = browser if browser is not None and len(browser) >= SECRET_BYTES else secrets.token_urlsafe(SECRET_BYTES)
        state, nonce = secrets.token_urlsafe(SECRET_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        verifier = secrets.token_urlsafe(SECRET_BYTES * 2)
        async with self._client(metadata) as client:
            address, _ = client.create_authorization_url(metadata.authorization_endpoint, state=state, code_verifier=verifier, nonce=nonce)
        self._forget_old()
        self._pending[state] = _Pending(known, nonce, verifier, target, self._clock_s())
        return Begun(address, known)

    async def finish(self, query: Mapping[str, str], browser: str | None) -> Finished:
        """Returns what the provider said of whoever comes back; raises SignInRefused.

        The state is used up by this, whatever comes of it: an answer that is sent again opens nothing.
        """
        self._forget_old()
        pending = self._pending.pop(query.get("state", ""), None)
        if pending is None or browser is None or not hmac.compare_digest(pending.browser.encode(), browser.encode()):
            raise SignInRefused("stale", "/")
        if query.get("iss", self._issuer) != self._issuer:
            raise SignInRefused("provider", pending.target)
        code = query.get("code", "")
        if query.get("error") or not code:
            _log.info("sign_in.refused_by_provider", error=query.get("error", "")[:80])
            raise SignInRefused("provider", pending.target)
        return Finished(await self._id_token(code, pending), pending.nonce, pending.target)

    async def _id_token(self, code: str, pending: _Pending) -> str:
        metadata = await self._described(pending.target)
        try:
            async with self._client(metadata) as client:
                token = await client.fetch_token(
                    metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=pending.verifier
                )
        except AuthlibBaseError as error:
            # The code of the error alone: its description may repeat what was sent.
            _log.warning("sign_in.code_refused", error=str(error.error)[:80])
            raise SignInRefused("provider", pending.target) from None
        except (httpx2.HTTPError, ValueError) as error:
            _log.warning("sign_in.provider_away", error=type(error).__name__)
            raise SignInRefused("provider-away", pending.target) from None
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            _log.warning("sign_in.no_id_token", scopes=self._scopes)
            raise SignInRefused("provider", pending.target)
        return id_token

    async def _described(self, target: str) -> ProviderMetadata:
        if self._metadata is not None and self._clock_s() - self._metadata_at_s < METADATA_KEPT_S:
            return self._metadata
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, transport=self._transport) as client:
                answer = await client.get(discovery_address(self._issuer))
            if answer.status_code != httpx2.codes.OK or len(answer.content) > MAX_DOCUMENT_BYTES:
                raise ProviderRefused(f"the provider answers {answer.status_code} where it should describe itself")
            self._metadata = check_metadata(ProviderMetadata.model_validate_json(answer.content), self._issuer)
        except (httpx2.HTTPError, ValidationError, ProviderRefused) as error:
            _log.warning(
                "sign_in.provider_away", issuer=self._issuer, error=str(error) if isinstance(error, ProviderRefused) else repr(error)
            )
            raise SignInRefused("provider-away", target) from error
        self._metadata_at_s = self._clock_s()
        return self._metadata

    def _client(self, metadata: ProviderMetadata) -> AsyncOAuth2Client:
        secret = None if self._secret is None else self._secret.get_secret_value()
        methods = metadata.token_endpoint_auth_methods_supported
        method = "none" if secret is None else "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return AsyncOAuth2Client(
            client_id=self._client_id,
            client_secret=secret,
            token_endpoint_auth_method=method,
            scope=self._scopes,
            redirect_uri=self._redirect_url,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            transport=self._transport,
        )

    def _forget_old(self) -> None:
        now_s = self._clock_s()
        for state in [state for state, pending in self._pending.items() if now_s - pending.begun_at_s > PENDING_S]:
            del self._pending[state]
        while len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
