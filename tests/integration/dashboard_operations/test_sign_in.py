"""Signing in by a provider, in a real browser and against the real api: who comes in, who does not, and what ends with the session."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from factories.browser import Visit
from factories.oidc_provider import LocalProvider, a_key
from factories.operations_world import OperationsWorld
from quantry.errors import ApiError
from quantry_core.audit import AuditFilter
from quantry_core.keys import Role

NONCE = "n" * 32
ADA = "<img src=x onerror=document.title='owned'><b>ada</b>@example.org"
"""What a provider says is anybody's to choose there."""


def sign_in(person: Visit, path: str = "/workers") -> Page:
    """Goes to a page by way of the provider."""
    page = person.go(path)
    page.get_by_role("link", name="Sign in with Example ID").click()
    return page


def test_somebody_with_a_group_comes_in_and_their_key_ends_with_the_session(
    world: OperationsWorld, provider: LocalProvider, visit: Callable[..., Visit]
) -> None:
    provider.claims = {"sub": "u-1", "email": ADA, "email_verified": True, "groups": ["staff", "ml-admins"]}
    person = visit()
    page = sign_in(person, "/admin/keys")
    # To where they wanted to go, with the role that their group has here.
    page.wait_for_url("**/admin/keys")
    expect(page.get_by_text(f"{ADA} (admin)")).to_be_visible()
    expect(page.get_by_role("table", name="Keys")).to_contain_text(ADA)
    assert page.locator("img, #content b").count() == 0
    key = next(key for key in world.admin.keys.list().data if key.name == ADA)
    assert key.role is Role.ADMIN and key.expires_at is not None
    assert round((key.expires_at - key.created_at).total_seconds() / 3600) == 12
    told = world.admin.audit.list(AuditFilter(action="session.create", noun_id=key.id)).data[0]
    assert told.data | {"claim": "groups", "value": "ml-admins", "subject": "u-1", "person": ADA} == told.data
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in**")
    assert world.admin.keys.get(key.id).revoked_at is not None
    assert world.admin.audit.list(AuditFilter(action="session.end", noun_id=key.id)).data[0].key_id == key.id
    # What the provider answered is used up.
    answer = next(url for url in person.requests if "/sign-in/provider/callback" in url)
    page.goto(answer)
    expect(page.get_by_role("alert")).to_contain_text("begun elsewhere or too long ago, or it was used already")


def test_who_has_no_group_here_is_told_so(world: OperationsWorld, provider: LocalProvider, visit: Callable[..., Visit]) -> None:
    provider.claims = {"sub": "u-2", "groups": ["sales"]}
    page = sign_in(visit())
    expect(page.get_by_role("alert")).to_contain_text("none of your groups has a role here")
    # Nothing was made for them, and a key still opens the door.
    assert all(key.name != "u-2" for key in world.admin.keys.list().data)
    page.get_by_label("API key").fill(world.secrets["viewer"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("viewer key")).to_be_visible()


def test_who_the_provider_turns_away_is_told_so(provider: LocalProvider, visit: Callable[..., Visit]) -> None:
    provider.denies = True
    try:
        page = sign_in(visit())
        expect(page.get_by_role("alert")).to_contain_text("did not vouch for you")
    finally:
        provider.denies = False


def test_an_answer_that_another_browser_began_opens_nothing(world: OperationsWorld, provider: LocalProvider) -> None:
    num_tokens = len(provider.tokens)
    with httpx.Client(base_url=world.dashboard.url, trust_env=False) as began, httpx.Client(trust_env=False) as sent:
        there = began.get("/sign-in/provider").headers["location"]
        answer = sent.get(there).headers["location"]
        came = sent.get(answer)
        assert came.headers["location"] == "/sign-in?said=stale"
        assert "quantry_dashboard" not in str(came.cookies)
    assert len(provider.tokens) == num_tokens


def test_the_api_takes_good_tokens_once(world: OperationsWorld, provider: LocalProvider) -> None:
    provider.claims = {"sub": "u-3", "groups": ["ml"]}
    with world.client("none-yet") as nobody:
        token = provider.token(nonce=NONCE)
        made = nobody.sessions.create(token, NONCE)
        assert (made.person, made.key.role) == ("u-3", Role.VIEWER)
        forged = provider.token(nonce=NONCE, key=a_key(str(provider.key.kid)))
        for bad, why in (
            (token, "used before"),
            (forged, "signature"),
            (provider.token(nonce=NONCE, aud="another"), "aud"),
            (provider.token(nonce=NONCE, exp=1), "expired"),
            (provider.token(nonce="m" * 32), "nonce"),
        ):
            with pytest.raises(ApiError, match=why) as refused:
                nobody.sessions.create(bad, NONCE)
            assert refused.value.status == 401
        # The provider begins to sign with another key.
        provider.rotate()
    with world.client(made.secret) as viewer:
        assert viewer.whoami().key_id == made.key.id
        viewer.sessions.end()
        with pytest.raises(ApiError) as ended:
            viewer.whoami()
        assert ended.value.status == 401
    with pytest.raises(ApiError, match="not made by a sign-in"):
        world.admin.sessions.end()
