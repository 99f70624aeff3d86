"""Signing in by an OpenID Connect provider: the way there with PKCE, state and nonce, and the way back with a token.

OpenID Connect Core 1.0 (authorization code flow), RFC 7636 (PKCE), RFC 9207 (issuer in the answer). Whether the token is good is not
decided here: the API does, which the dashboard is a client of.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import ValidationError

from quantry_core.oidc import MAX_DOCUMENT_BYTES, ProviderMetadata, ProviderRefused, check_metadata, discovery_address
from quantry_dashboard.pending_sign_ins import Pending, PendingSignIns
from quantry_dashboard.settings import DashboardSettings

TIMEOUT_S = 10.0
METADATA_KEPT_S = 3600.0
AWAY_S = 2.0
"""A provider that has not described itself is not asked again for so long."""

_log = structlog.get_logger(__name__)


class SignInRefused(Exception):
    """A sign-in came to nothing. ``word`` is one of the form's sentences, ``target`` where somebody wanted to go."""

    def __init__(self, word: str, target: str) -> None:
        super().__init__(word)
        self.word = word
        self.target = target


class Begun(NamedTuple):
    """Where to send somebody, and the cookie that their browser has to bring back."""

    address: str
    cookie: str


class Finished(NamedTuple):
    """What the provider said, for the API to judge."""

    id_token: str
    nonce: str
    target: str


class Provider:
    """One provider, as it describes itself. What is under way is kept by the browsers."""

    def __init__(
        self,
        settings: DashboardSettings,
        *,
        clock_s: Callable[[], float] = time.time,
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
        self._pending = PendingSignIns(settings.dashboard_secret.get_secret_value())
        self._metadata: ProviderMetadata | None = None
        self._metadata_until_s = self._away_until_s = -math.inf
        self._describing = asyncio.Lock()

    async def begin(self, target: str, cookie: str | None) -> Begun:
        """Returns where the sign-in goes on. ``cookie``: what the browser brought of earlier ones; several tabs may sign in at once.

        Raises SignInRefused where the provider does not answer.
        """
        metadata = await self._described(target)
        pending, kept = self._pending.begin(cookie, target, self._clock_s())
        address = prepare_grant_uri(
            metadata.authorization_endpoint,
            self._client_id,
            "code",
            redirect_uri=self._redirect_url,
            scope=self._scopes,
            state=pending.state,
            nonce=self._pending.nonce(pending),
            code_challenge=create_s256_code_challenge(self._pending.verifier(pending)),
            code_challenge_method="S256",
        )
        return Begun(address, kept)

    async def finish(self, query: Mapping[str, str], cookie: str | None) -> Finished:
        """Returns what the provider said of whoever comes back; raises SignInRefused.

        The state is used up by this, whatever comes of it: an answer that is sent again opens nothing.
        """
        pending = self._pending.take(cookie, query.get("state", ""), self._clock_s())
        if pending is None:
            raise SignInRefused("stale", "/")
        if query.get("iss", self._issuer) != self._issuer:
            raise SignInRefused("provider", pending.target)
        code = query.get("code", "")
        if query.get("error") or not code:
            _log.info("sign_in.refused_by_provider", error=query.get("error", "")[:80])
            raise SignInRefused("provider", pending.target)
        return Finished(await self._id_token(code, pending), self._pending.nonce(pending), pending.target)

    async def _id_token(self, code: str, pending: Pending) -> str:
        metadata = await self._described(pending.target)
        try:
            async with self._client(metadata) as client:
                token = await client.fetch_token(
                    metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=self._pending.verifier(pending)
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
        # One question for all who come at once.
        async with self._describing:
            now_s = self._clock_s()
            if self._metadata is not None and now_s < self._metadata_until_s:
                return self._metadata
            if now_s < self._away_until_s:
                raise SignInRefused("provider-away", target)
            try:
                self._metadata = await self._read_metadata()
            except (httpx2.HTTPError, ValidationError, ProviderRefused) as error:
                self._away_until_s = now_s + AWAY_S
                _log.warning(
                    "sign_in.provider_away", issuer=self._issuer, error=str(error) if isinstance(error, ProviderRefused) else repr(error)
                )
                raise SignInRefused("provider-away", target) from error
            self._metadata_until_s = now_s + METADATA_KEPT_S
            return self._metadata

    async def _read_metadata(self) -> ProviderMetadata:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, transport=self._transport) as client:
            answer = await client.get(discovery_address(self._issuer))
        if answer.status_code != httpx2.codes.OK or len(answer.content) > MAX_DOCUMENT_BYTES:
            raise ProviderRefused(f"the provider answers {answer.status_code} where it should describe itself")
        return check_metadata(ProviderMetadata.model_validate_json(answer.content), self._issuer)

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
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            transport=self._transport,
        )
