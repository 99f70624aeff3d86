"""The way to the provider and back: PKCE, state, nonce, and a browser that must be the same."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from factories.oidc_provider import CLIENT_ID, CLIENT_SECRET, ISSUER, LocalProvider, a_key
from quantry_dashboard.pending_sign_ins import MAX_COOKIE_CHARS, PENDING_S
from quantry_dashboard.provider import AWAY_S, Provider, SignInRefused
from quantry_dashboard.settings import DashboardSettings

BACK = "https://dash.example.org/sign-in/provider/callback"
_KEY = a_key("first")


class World:
    """A provider in memory, and the dashboard's side of it."""

    def __init__(self, **changed: Any) -> None:
        self.provider = LocalProvider(key=_KEY)
        self.now_s = 0.0
        self.is_away = False
        given: dict[str, Any] = {
            "control_url": "http://127.0.0.1:1",
            "oidc_issuer": ISSUER,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "oidc_redirect_url": BACK,
            **changed,
        }
        self.door = Provider(DashboardSettings(**given), clock_s=lambda: self.now_s, transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.is_away:
            raise httpx2.ConnectError("refused")
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        said = self.provider.answer(request.method, str(request.url), form=form, authorization=request.headers.get("Authorization", ""))
        return httpx2.Response(said.status, json=said.body)

    def come_back(self, address: str) -> dict[str, str]:
        """Returns what the browser is sent back with, after somebody has signed in at an address."""
        location = self.provider.answer("GET", address).location
        assert location is not None and location.startswith(BACK)
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    async def refused(self, query: dict[str, str], browser: str | None) -> str:
        with pytest.raises(SignInRefused) as error:
            await self.door.finish(query, browser)
        return error.value.word


async def test_somebody_goes_there_and_comes_back_with_a_token() -> None:
    world = World()
    begun = await world.door.begin("/jobs?status=failed", None)
    asked = parse_qs(urlsplit(begun.address).query)
    assert asked["redirect_uri"] == [BACK]
    assert asked["scope"] == ["openid email profile"]
    assert asked["code_challenge_method"] == ["S256"]
    assert len({asked[name][0] for name in ("state", "nonce", "code_challenge")}) == 3
    assert CLIENT_SECRET not in begun.address
    assert asked["nonce"][0] not in begun.cookie
    finished = await world.door.finish(world.come_back(begun.address), begun.cookie)
    assert finished == (world.provider.tokens[0], asked["nonce"][0], "/jobs?status=failed")


async def test_an_answer_opens_nothing_a_second_time() -> None:
    world = World()
    begun = await world.door.begin("/", None)
    query = world.come_back(begun.address)
    await world.door.finish(query, begun.cookie)
    assert await world.refused(query, begun.cookie) == "stale"


async def test_an_answer_opens_nothing_in_another_browser() -> None:
    """Else whoever is sent a link would be signed in as who made it."""
    world = World()
    for browser in (None, "", "b" * 43):
        begun = await world.door.begin("/", None)
        assert await world.refused(world.come_back(begun.address), browser) == "stale"
    assert world.provider.tokens == []


async def test_tabs_of_one_browser_sign_in_at_once() -> None:
    world = World()
    first = await world.door.begin("/one", None)
    second = await world.door.begin("/two", first.cookie)
    for begun, target in ((first, "/one"), (second, "/two")):
        assert (await world.door.finish(world.come_back(begun.address), second.cookie)).target == target


async def test_a_state_that_is_forged_missing_or_old_is_stale() -> None:
    world = World()
    begun = await world.door.begin("/", None)
    query = world.come_back(begun.address)
    assert await world.refused({**query, "state": "s" * 43}, begun.cookie) == "stale"
    assert await world.refused({"code": query["code"]}, begun.cookie) == "stale"
    world.now_s = PENDING_S + 1
    assert await world.refused(query, begun.cookie) == "stale"


async def test_who_begins_many_sign_ins_forgets_their_own_alone() -> None:
    world = World()
    mine = await world.door.begin("/mine", None)
    cookie, begun = None, []
    for number in range(40):
        begun.append(await world.door.begin(f"/jobs?labels={'x' * 200}{number}", cookie))
        cookie = begun[-1].cookie
        assert len(cookie) <= MAX_COOKIE_CHARS
    assert await world.refused(world.come_back(begun[0].address), cookie) == "stale"
    await world.door.finish(world.come_back(begun[-1].address), cookie)
    assert (await world.door.finish(world.come_back(mine.address), mine.cookie)).target == "/mine"


async def test_a_cookie_that_was_written_elsewhere_holds_nothing() -> None:
    world, other = World(), World()
    begun = await other.door.begin("/", None)
    assert await world.refused(world.come_back(begun.address), begun.cookie) == "stale"
    own = await world.door.begin("/", None)
    text, _, signature = own.cookie.rpartition(".")
    for forged in (f"{text}x.{signature}", f".{signature}", text, f"{text}.é"):
        assert await world.refused(world.come_back(own.address), forged) == "stale"


async def test_what_the_provider_refuses_is_said_so() -> None:
    world = World()
    world.provider.denies = True
    begun = await world.door.begin("/jobs", None)
    query = world.come_back(begun.address)
    assert query["error"] == "access_denied"
    assert await world.refused(query, begun.cookie) == "provider"
    world.provider.denies = False
    # Another provider's answer, mixed in; a code that is none; a secret that is not the client's.
    for changed in ({"iss": "https://evil.example.org"}, {"code": "wrong"}, {"code": ""}):
        begun = await world.door.begin("/", None)
        assert await world.refused({**world.come_back(begun.address), **changed}, begun.cookie) == "provider"
    world.provider.secret = "another"
    begun = await world.door.begin("/", None)
    assert await world.refused(world.come_back(begun.address), begun.cookie) == "provider"


async def test_a_provider_that_is_away_or_another_is_said_so() -> None:
    world = World()
    begun = await world.door.begin("/jobs", None)
    query = world.come_back(begun.address)
    world.is_away = True
    assert await world.refused(query, begun.cookie) == "provider-away"
    away = World()
    away.is_away = True
    with pytest.raises(SignInRefused) as error:
        await away.door.begin("/jobs", None)
    assert (error.value.word, error.value.target) == ("provider-away", "/jobs")
    # It is asked again only after a while.
    away.is_away = False
    with pytest.raises(SignInRefused):
        await away.door.begin("/jobs", None)
    away.now_s = AWAY_S
    await away.door.begin("/jobs", None)
    other = World()
    other.provider.metadata = {"issuer": "https://evil.example.org"}
    with pytest.raises(SignInRefused, match="provider-away"):
        await other.door.begin("/", None)


@pytest.mark.parametrize("methods", [["client_secret_post"], None])
async def test_the_client_proves_itself_as_the_provider_takes_it(methods: list[str] | None) -> None:
    world = World(**({"oidc_client_secret": None} if methods is None else {}))
    world.provider.secret = None
    world.provider.metadata = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
    begun = await world.door.begin("/", None)
    assert (await world.door.finish(world.come_back(begun.address), begun.cookie)).id_token == world.provider.tokens[0]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"oidc_client_id": None}, "CLIENT_ID"),
        ({"oidc_redirect_url": None}, "REDIRECT_URL"),
        ({"oidc_redirect_url": "http://dash.example.org/sign-in/provider/callback"}, "REDIRECT_URL"),
        ({"oidc_redirect_url": "https://dash.example.org/"}, "ends with"),
        ({"oidc_issuer": "http://id.example.org"}, "https"),
        ({"oidc_scopes": "email"}, "openid"),
    ],
)
def test_half_a_configuration_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        World(**changed)
