"""Which of a provider's people may do what here, and which addresses a provider may have."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.keys import Role
from quantry_core.oidc import (
    Grant,
    ProviderMetadata,
    ProviderRefused,
    check_issuer,
    check_metadata,
    claim_values,
    granted,
    is_safe_address,
    person_of,
)

ISSUER = "https://id.example.org/realms/ml"
GRANTS = [Grant(value="ml-admins", project="default", role=Role.ADMIN), Grant(value="staff", project="search", role=Role.VIEWER)]


@pytest.mark.parametrize(
    ("claims", "path", "values"),
    [
        ({"groups": ["a", "b"]}, "groups", ["a", "b"]),
        ({"groups": "a"}, "groups", ["a"]),
        ({"groups": ["a", 1, None, {"b": "c"}]}, "groups", ["a"]),
        ({}, "groups", []),
        ({"groups": {"a": True}}, "groups", []),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
        ({"realm_access": "a"}, "realm_access.roles", []),
        ({"https://example.org/groups": ["a"]}, "https://example.org/groups", ["a"]),
        ({"email": "a@example.org", "email_verified": True}, "email", ["a@example.org"]),
        ({"email": "a@example.org", "email_verified": "true"}, "email", []),
        ({"email": "a@example.org"}, "email", []),
    ],
)
def test_a_claim_is_read_where_it_is(claims: dict[str, Any], path: str, values: list[str]) -> None:
    assert claim_values(claims, path) == values


def test_the_first_line_that_fits_counts() -> None:
    assert granted(GRANTS, ["staff", "ml-admins"]) == GRANTS[0]
    assert granted(GRANTS, ["staff"]) == GRANTS[1]
    assert granted(GRANTS, ["STAFF", "staff ", ""]) is None
    assert granted(GRANTS, []) is None


@pytest.mark.parametrize("role", [Role.WORKER, Role.GATEWAY])
def test_nobody_signs_in_as_a_machine(role: Role) -> None:
    with pytest.raises(ValidationError, match="people are viewers"):
        Grant(value="x", project="default", role=role)


def test_a_person_is_called_by_an_address_that_is_verified() -> None:
    assert person_of({"sub": "u-1", "email": "ada@example.org", "email_verified": True}) == "ada@example.org"
    assert person_of({"sub": "u-1", "email": "ada@example.org"}) == "u-1"
    assert person_of({"sub": "u-1", "email": "ada@example.org", "email_verified": "true"}) == "u-1"
    assert person_of({"sub": "u-1", "email": "a\nb@example.org", "email_verified": True}) == "u-1"
    assert len(person_of({"sub": "u" * 1000})) == 254


@pytest.mark.parametrize(
    "address",
    ["http://id.example.org", "ftp://127.0.0.1", "http://127.0.0.1.example.org", "http://localhost@example.org", "https://", "", "//x"],
)
def test_what_could_be_changed_on_the_way_is_not_asked(address: str) -> None:
    assert not is_safe_address(address)


def test_an_issuer_is_an_address_alone() -> None:
    assert check_issuer("http://127.0.0.1:8080") == "http://127.0.0.1:8080"
    for wrong in ("https://id.example.org?x=1", "https://id.example.org#x", "http://id.example.org", "id.example.org"):
        with pytest.raises(ValueError, match=r"an issuer is"):
            check_issuer(wrong)


def test_a_provider_that_is_another_is_refused() -> None:
    said = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/a",
        "token_endpoint": f"{ISSUER}/t",
        "jwks_uri": f"{ISSUER}/k",
    }
    assert check_metadata(ProviderMetadata.model_validate(said), ISSUER).issuer == ISSUER
    with pytest.raises(ProviderRefused, match="calls itself"):
        check_metadata(ProviderMetadata.model_validate({**said, "issuer": f"{ISSUER}/"}), ISSUER)
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        with pytest.raises(ProviderRefused, match=name):
            check_metadata(ProviderMetadata.model_validate({**said, name: "http://id.example.org/x"}), ISSUER)
