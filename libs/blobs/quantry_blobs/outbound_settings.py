"""Settings of the guarded way out, apart from it: a job's child has no library of settings."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from quantry_core.outbound import Destination, OutboundRules, PrivatePlace


class OutboundSettings(BaseSettings):
    """Where fetches that users ask for may go: ``QUANTRY_OUTBOUND_PRIVATE`` and so on. The same for every service."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_OUTBOUND_", frozen=True, extra="ignore")

    private: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Private hosts (receiver.tools.svc, *.corp.example) and networks (10.20.0.0/16) that may be asked, each with :port "
        "where only that is meant, separated by commas. None: public addresses alone.",
    )
    http: bool = Field(default=False, description="Whether public hosts may be asked without TLS. Private ones that are named may always.")
    proxy: SecretStr | None = Field(
        default=None,
        description="An HTTP proxy for all but the private hosts that are named, http://[user:password@]host:port. It looks hosts up, so "
        "that it must keep private ones away. The proxies of the environment (HTTPS_PROXY) are not looked at.",
    )

    @field_validator("private", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("private")
    @classmethod
    def _check(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            PrivatePlace.parse(entry)
        return entries

    @cached_property
    def rules(self) -> OutboundRules:
        """What may be fetched."""
        return OutboundRules(tuple(PrivatePlace.parse(entry) for entry in self.private), plain_http=self.http)

    def proxy_of(self, destination: Destination) -> str | None:
        """Returns the proxy, with its password; None where none is set, and for private hosts that are named."""
        return None if self.proxy is None or self.rules.names(destination) else self.proxy.get_secret_value()
