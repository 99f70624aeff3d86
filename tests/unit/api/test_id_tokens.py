"""Only a token that the provider signed, for this installation, just now, for this very sign-in, is taken."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import ValidationError

from factories.oidc_provider import CLIENT_ID, ISSUER, LocalProvider, a_key
from quantry_api.sessions import id_tokens
from quantry_api.sessions.id_tokens import KEYS_ASKED_EVERY_S, KEYS_KEPT_S, IdTokens, signed_digest
from quantry_api.sessions.settings import OidcSettings
from quantry_core.errors import QuantryError, Unauthorized, Unavailable
from quantry_core.oidc import MAX_DOCUMENT_BYTES, Grant, ProviderRefused

NONCE = "n" * 32
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NOW = int(time.time())
GRANTS = [Grant.model_validate({"value": "ml", "project": "default", "role": "operator"})]
_KEY = a_key("first")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """A provider in memory, and what verifies its tokens."""

    def __init__(self) -> None:
        self.provider = LocalProvider(key=_KEY)
        self.clock = Clock()
        self.failure: httpx.HTTPError | None = None
        self.too_long = False
        settings = OidcSettings(issuer=ISSUER, client_id=CLIENT_ID, grants=GRANTS)
        self.tokens = IdTokens(settings, transport=httpx.MockTransport(self._answer), clock_s=self.clock)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.failure is not None:
            raise self.failure
        if self.too_long:
            return httpx.Response(200, content=b" " * (MAX_DOCUMENT_BYTES + 1))
        said = self.provider.answer(request.method, str(request.url))
        return httpx.Response(said.status, json=said.body)

    @property
    def num_key_questions(self) -> int:
        return self.provider.asked.count("GET /keys")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tokens.close()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


async def refused(world: World, token: str, nonce: str = NONCE) -> str:
    with pytest.raises(Unauthorized) as error:
        await world.tokens.verify(token, nonce)
    return error.value.detail


async def test_a_good_token_says_who_it_is(world: World) -> None:
    claims = await world.tokens.verify(world.provider.token(), NONCE)
    assert (claims["sub"], claims["groups"]) == ("u-1", ["ml"])
    await world.tokens.verify(world.provider.token(aud=[CLIENT_ID]), NONCE)
    await world.tokens.verify(world.provider.token(aud=[CLIENT_ID, "other"], azp=CLIENT_ID), NONCE)
    assert world.num_key_questions == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"aud": "other"}, "aud"),
        ({"aud": ["other"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": {"quantry": 1}}, "aud"),
        ({"aud": [CLIENT_ID, "other"]}, "azp"),
        ({"aud": [CLIENT_ID, "other"], "azp": "other"}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"iss": "https://evil.example.org"}, "iss"),
        ({"iss": [ISSUER]}, "iss"),
        ({"iss": None}, "iss"),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"iat": NOW - 3600, "exp": NOW + 3600}, "too long ago"),
        ({"iat": NOW + 3600, "exp": NOW + 7200}, "iat"),
        ({"iat": None}, "iat"),
        ({"nbf": NOW + 3600}, "nbf"),
        ({"nonce": "m" * 32}, "nonce"),
        ({"nonce": [NONCE]}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
    ],
)
async def test_a_claim_that_is_another_refuses_the_token(world: World, changed: dict[str, Any], why: str) -> None:
    assert why in await refused(world, world.provider.token(**changed))


async def test_a_forged_token_is_refused(world: World) -> None:
    good = world.provider.token()
    head, body, signature = good.split(".")
    heads = ({"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256", "crit": 1}, {"alg": "RS256", "crit": [1]})
    other, unsigned, shared, odd, odder = (_encoded(json.dumps(one).encode()) for one in ({"sub": "root"}, *heads))
    forged = a_key("first")
    # The public key, which anybody has, as if it were a secret that both sides have.
    mac = hmac.digest(world.provider.key.as_pem(private=False), f"{shared}.{body}".encode(), "sha256")
    for token in (
        world.provider.token(key=forged),
        f"{head}.{other}.{signature}",
        f"{unsigned}.{body}.",
        f"{head}.{body}.",
        f"{shared}.{body}.{_encoded(mac)}",
        f"{odd}.{body}.{signature}",
        f"{odder}.{body}.{signature}",
        "not a token",
        "a.b.c",
        "",
    ):
        assert "signature" in await refused(world, token)


def test_a_token_with_a_second_good_signature_is_the_same_token() -> None:
    key = ECKey.generate_key("P-256")
    token = jwt.encode({"alg": "ES256"}, {"sub": "u-1"}, key)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    # Of every signature (r, s) there is another, (r, n - s).
    twin = f"{signed}.{_encoded(raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32))}"
    assert jwt.decode(twin, key).claims == {"sub": "u-1"}
    assert twin != token
    assert signed_digest(twin) == signed_digest(token)
    assert signed_digest(jwt.encode({"alg": "ES256"}, {"sub": "u-2"}, key)) != signed_digest(token)


async def test_keys_are_asked_for_again_when_the_provider_signs_with_another(world: World) -> None:
    await world.tokens.verify(world.provider.token(), NONCE)
    world.provider.rotate()
    world.clock.now_s += KEYS_ASKED_EVERY_S
    await world.tokens.verify(world.provider.token(), NONCE)
    assert world.num_key_questions == 2
    # A key that was taken back is not taken once the new ones are known.
    assert "signature" in await refused(world, world.provider.token(key=_KEY))


async def test_strangers_keys_make_nobody_ask_the_provider_without_end(world: World) -> None:
    stranger = a_key("stranger")
    for _ in range(5):
        await refused(world, world.provider.token(key=stranger))
    assert world.num_key_questions <= 2
    world.clock.now_s += KEYS_KEPT_S + 1
    await world.tokens.verify(world.provider.token(), NONCE)
    assert world.num_key_questions <= 3


async def test_a_provider_that_is_away_or_not_itself_lets_nobody_in(world: World) -> None:
    world.failure = httpx.ConnectError("refused")
    with pytest.raises(Unavailable):
        await world.tokens.verify(world.provider.token(), NONCE)
    world.failure = None
    for wrong in ({"issuer": "https://evil.example.org"}, {"jwks_uri": "http://id.example.org/keys"}, {"jwks_uri": None}):
        world.provider.metadata = wrong
        with pytest.raises(ProviderRefused):
            await world.tokens.verify(world.provider.token(), NONCE)
    world.provider.metadata = {"jwks_uri": f"{ISSUER}/nowhere"}
    with pytest.raises(QuantryError) as error:
        await world.tokens.verify(world.provider.token(), NONCE)
    assert error.value.status == 503
    world.too_long = True
    with pytest.raises(ProviderRefused, match="larger"):
        await world.tokens.verify(world.provider.token(), NONCE)


class Dripping(httpx.AsyncByteStream):
    """An answer whose next piece always comes in time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0)


async def test_a_provider_that_never_ends_its_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_tokens, "DOCUMENT_TIMEOUT_S", 0.01)
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Dripping()))
    tokens = IdTokens(OidcSettings(issuer=ISSUER, client_id=CLIENT_ID, grants=GRANTS), transport=transport)
    with pytest.raises(Unavailable, match="does not answer"):
        await tokens.verify("a.b.c", NONCE)
    await tokens.close()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"issuer": ISSUER, "grants": GRANTS}, "CLIENT_ID"),
        ({"issuer": ISSUER, "client_id": CLIENT_ID}, "GRANTS"),
        ({"issuer": "http://id.example.org", "client_id": CLIENT_ID, "grants": GRANTS}, "https"),
    ],
)
def test_half_a_configuration_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OidcSettings(**given)
