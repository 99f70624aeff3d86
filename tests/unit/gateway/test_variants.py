"""Which release a request goes to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.gateway import route, routed, variant
from quantry_core.routes import Split, Variant, VariantRole
from quantry_core.strategies import StickyBy
from quantry_gateway.peek import WHOLE_BYTES, Fields
from quantry_gateway.variants import can_answer, client_of, known_names, named, pick, serving, sticky_point

STABLE, CANDIDATE = VariantRole.STABLE, VariantRole.CANDIDATE


def pair(percent: int, *, stable_url: str | None = "http://s", candidate_url: str | None = "http://c") -> list[Variant]:
    """Returns the variants of a rollout whose candidate has this share."""
    stable = variant(STABLE, 3, 100 - percent, *([stable_url] if stable_url else []))
    return [stable, variant(CANDIDATE, 4, percent, *([candidate_url] if candidate_url else []))]


@pytest.mark.parametrize("percent", [1, 10, 50, 99, 100])
def test_the_share_of_points_is_the_percent(percent: int) -> None:
    picked = Counter(pick(pair(percent), n / 1000).role for n in range(1000))
    assert picked[CANDIDATE] == percent * 10


@given(st.floats(min_value=0, max_value=1, exclude_max=True), st.integers(min_value=1, max_value=99))
def test_who_has_the_candidate_keeps_it_as_its_share_grows(point: float, percent: int) -> None:
    if pick(pair(percent), point).role is CANDIDATE:
        assert pick(pair(percent + 1), point).role is CANDIDATE


def test_shares_count_among_those_that_are_given() -> None:
    stable, candidate = pair(10)
    assert pick([stable], 0.05) is stable
    assert pick([candidate], 0.95) is candidate
    # After the last step the stable release has no share; alone it has all.
    stable, candidate = pair(100)
    assert {pick([stable, candidate], n / 10).role for n in range(10)} == {CANDIDATE}
    assert pick([stable], 0.5) is stable


def test_a_candidate_without_a_share_gets_nothing_unasked_and_stable_always_may() -> None:
    assert [found.role for found in serving(routed("bard", *pair(0)))] == [STABLE]
    assert [found.role for found in serving(routed("bard", *pair(100)))] == [STABLE, CANDIDATE]


def test_a_variant_is_named_by_role_or_number() -> None:
    both = routed("bard", *pair(10))
    assert [named(both, name) for name in ("stable", "3", "candidate", "4")] == [both.variants[n] for n in (0, 0, 1, 1)]
    assert named(both, "5") is None
    assert named(route("bard"), "candidate") is None
    assert known_names(both) == ["stable", "3", "candidate", "4"]


def test_what_ends_the_wait_for_a_replica() -> None:
    assert not can_answer(route("bard"), None)
    assert can_answer(route("bard", "http://s"), None)
    # Only a candidate without a share is ready: it is not for everybody.
    shadowed = routed("bard", *pair(0, stable_url=None))
    assert not can_answer(shadowed, None)
    assert can_answer(shadowed, "candidate")
    assert not can_answer(route("bard"), "stable")
    assert can_answer(route("bard"), "nobody")


def test_clients_are_spread_by_the_percent_and_dealt_out_anew_by_another_salt() -> None:
    points = {name: sticky_point("rol_1", name.encode()) for name in map(str, range(4000))}
    assert all(0 <= point < 1 for point in points.values())
    # Three standard deviations of a share of 20% among 4000 are 1.9 points.
    assert abs(sum(point < 0.2 for point in points.values()) / 4000 - 0.2) < 0.019
    assert points == {name: sticky_point("rol_1", name.encode()) for name in points}
    both = sum(point < 0.5 and sticky_point("rol_2", name.encode()) < 0.5 for name, point in points.items())
    assert abs(both / 4000 - 0.25) < 0.021


HEADERS = [(b"x-tenant", b"acme"), (b"accept", b"*/*")]


def test_what_a_client_is_known_by() -> None:
    fields = Fields(b'{"user":"ann","prompt":"To be"}')
    by_header = Split(by=StickyBy.HEADER, header="x-tenant", salt="rol_1")
    assert client_of(by_header, HEADERS, fields) == b"acme"
    assert client_of(by_header, [], fields) is None
    by_user = Split(by=StickyBy.USER, salt="rol_1")
    assert client_of(by_user, [], fields) == b"ann"
    for body in (b"{}", b'{"user":""}', b'{"user":7}', b'{"user":null}'):
        assert client_of(by_user, [], Fields(body)) is None
    halves = [client_of(by_user, [], Fields(b'{"user":"\\ud8%d0"}' % n)) for n in (0, 1)]
    assert None not in halves
    assert halves[0] != halves[1]


def test_a_prompt_is_known_whatever_else_the_body_says() -> None:
    by_hash = Split(by=StickyBy.HASH, salt="rol_1")

    def client(body: bytes) -> bytes | None:
        return client_of(by_hash, [], Fields(body))

    assert client(b'{"prompt":"To be","temperature":0}') == client(b'{"temperature":1,"prompt" : "To be"}') != client(b'{"prompt":"Not"}')
    assert client(b'{"messages":[{"role":"user","content":"a"}]}') != client(b'{"messages":[{"role":"user","content":"b"}]}')
    assert client(b'{"input":["a"]}') is not None
    assert client(b"{}") is None


@pytest.mark.parametrize("by", [StickyBy.USER, StickyBy.HASH])
@pytest.mark.parametrize("broken", [b"{,}", b"[" * 200_000], ids=["no-json", "too-deep"])
def test_a_large_body_that_proves_to_be_broken_is_dealt_out_and_left_to_its_engine(by: StickyBy, broken: bytes) -> None:
    fields = Fields(b'{"model":"bard","padding":"' + b"x" * WHOLE_BYTES + b'","messages":[' + broken + b'],"user":{"a":1}}')
    assert fields.get("model") == "bard"
    assert client_of(Split(by=by, salt="rol_1"), [], fields) is None
