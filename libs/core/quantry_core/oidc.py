"""Signing in by an OpenID Connect provider: what a provider says of itself, and which of its people may do what here.

OpenID Connect Core 1.0 and Discovery 1.0; authorization code flow with PKCE (RFC 7636).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from quantry_core.errors import QuantryError
from quantry_core.keys import ApiKey, Role
from quantry_core.names import Name

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
"""Of what a provider answers: its description, its keys, a token."""
MAX_TOKEN_CHARS: Final = 16 * 1024
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""How a token may be signed: by a key pair alone. A secret that both sides have (HS256), and none at all, are no proof of who signed."""
PEOPLES_ROLES: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class ProviderRefused(QuantryError):
    """What a provider says of itself cannot be: nobody signs in by it."""

    status = 503
    slug = "provider-refused"
    title = "The sign-in provider cannot be used"


class ProviderMetadata(BaseModel):
    """What a provider says of itself: the part of its discovery document that is used here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]


class Grant(BaseModel):
    """One line of the mapping: who has a value in the claim gets a role in a project."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="Of the claim: a group, such as ml-admins.")
    project: Name = Field(description="The name of the project.")
    role: Role = Field(description="viewer, operator or admin.")

    @field_validator("role")
    @classmethod
    def _is_peoples(cls, role: Role) -> Role:
        if role not in PEOPLES_ROLES:
            raise ValueError(f"people are viewers, operators or admins, not {role}s")
        return role


class SessionRequest(BaseModel):
    """Body of ``POST /api/v1/sessions``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id_token: str = Field(min_length=1, max_length=MAX_TOKEN_CHARS, description="As the provider signed it.")
    nonce: str = Field(min_length=16, max_length=256, description="What the sign-in began with; the token must hold the same.")


class NewSession(BaseModel):
    """A key for whoever signed in, with its secret: the only time that is shown."""

    model_config = ConfigDict(frozen=True)

    key: ApiKey
    secret: str
    person: str = Field(description="The e-mail address, where the provider says that it is verified; else the subject.")


def check_issuer(issuer: str) -> str:
    """Returns an issuer's address as it is compared; raises ValueError for one that is not https, but for this machine's own."""
    parts = urlsplit(issuer)
    if parts.query or parts.fragment or not parts.hostname:
        raise ValueError("an issuer is an address without query and fragment, such as https://id.example.org/realms/ml")
    if not is_safe_address(issuer):
        raise ValueError("an issuer is reached by https; http is for providers on this very machine")
    return issuer


def is_safe_address(address: str) -> bool:
    """Tells whether what is said to and by an address cannot be changed on the way: https, or this machine's own."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))


def discovery_address(issuer: str) -> str:
    """Returns where a provider describes itself."""
    return issuer.rstrip("/") + DISCOVERY_PATH


def check_metadata(metadata: ProviderMetadata, issuer: str) -> ProviderMetadata:
    """Returns what a provider says of itself; raises ProviderRefused where it is another's, or leads to where nothing is safe."""
    if metadata.issuer != issuer:
        raise ProviderRefused(f"the provider at {issuer} calls itself {metadata.issuer[:200]}: set the issuer to exactly what it says")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not is_safe_address(getattr(metadata, name)):
            raise ProviderRefused(f"the provider's {name} is not reached by https")
    return metadata


def claim_values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Returns the texts that a claim holds: ``groups``, or ``realm_access.roles`` for one within another. A name with a dot in it is
    looked for as it is first. An e-mail address that the provider has not verified gives nobody a role: it is anybody's to write."""
    if path == "email" and claims.get("email_verified") is not True:
        return []
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def granted(grants: Sequence[Grant], values: Sequence[str]) -> Grant | None:
    """Returns the first line of the mapping that fits one of the values; None where none does."""
    return next((grant for grant in grants if grant.value in values), None)


def person_of(claims: Mapping[str, Any]) -> str:
    """Returns what somebody is called in keys and in the audit log: the e-mail address that the provider has verified, else the subject.

    An address that is not verified is anybody's to write.
    """
    email = claims.get("email")
    if isinstance(email, str) and claims.get("email_verified") is True and 0 < len(email) <= 254 and email.isprintable():
        return email
    return str(claims["sub"])[:254]
