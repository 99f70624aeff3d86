"""Settings of signing in by a provider, read from the environment. The dashboard reads the first two as well."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.oidc import Grant, check_issuer


class OidcSettings(BaseSettings):
    """``QUANTRY_OIDC_ISSUER`` and so on. Without an issuer nobody signs in by a provider."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_OIDC_", frozen=True, extra="ignore")

    issuer: str | None = Field(default=None, description="The provider, exactly as its tokens and its discovery document name it.")
    client_id: str | None = Field(default=None, min_length=1, description="What the provider calls this installation: tokens are for it.")
    claim: str = Field(
        default="groups",
        min_length=1,
        max_length=200,
        description="The claim that says what somebody may do; realm_access.roles is within another.",
    )
    grants: list[Grant] = Field(
        default=[],
        max_length=500,
        description='JSON: [{"value": "ml-admins", "project": "default", "role": "admin"}, ...]. The first line that fits counts; who '
        "fits none may not come in.",
    )
    key_lifetime_s: int = Field(default=12 * 3600, ge=300, le=7 * 24 * 3600, description="Seconds that a key made by a sign-in holds.")
    max_token_age_s: int = Field(
        default=600, ge=30, le=3600, description="Seconds since a token was signed in which it is taken; it is taken once."
    )
    leeway_s: int = Field(default=30, ge=0, le=300, description="Seconds that the provider's clock may differ.")
    sessions_per_minute: int = Field(default=60, ge=1, description="Sign-ins, good or not, from one address in a minute.")

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str | None) -> str | None:
        return None if issuer is None else check_issuer(issuer)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.issuer is not None and self.client_id is None:
            raise ValueError("QUANTRY_OIDC_CLIENT_ID is missing: without it a token made for somebody else would be taken")
        if self.issuer is not None and not self.grants:
            raise ValueError("QUANTRY_OIDC_GRANTS is missing: without it nobody could come in")
        return self
