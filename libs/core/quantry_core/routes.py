"""The routes that gateways learn: which releases of a deployment get which share, and their replicas."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.captures import CaptureSettings
from quantry_core.keys import KeyLimits, Role
from quantry_core.strategies import StickyBy


class RoutedReplica(BaseModel):
    """A replica that may get traffic."""

    model_config = ConfigDict(frozen=True)

    id: str
    release_id: str
    url: str
    max_requests: int = Field(default=64, ge=1, description="Requests under way at once; more wait in the gateway.")


class VariantRole(StrEnum):
    """stable: the release that serves by default. candidate: the one a rollout brings."""

    STABLE = "stable"
    CANDIDATE = "candidate"


class Variant(BaseModel):
    """One release of a route. Its share goes to the others while it has no replica."""

    model_config = ConfigDict(frozen=True)

    role: VariantRole
    release_id: str
    release_number: int
    percent: int = Field(ge=0, le=100)
    replicas: list[RoutedReplica]


class Split(BaseModel):
    """What keeps a client with one variant."""

    model_config = ConfigDict(frozen=True)

    by: StickyBy
    header: str | None = None
    salt: str = Field(description="The rollout's id: another rollout deals clients out anew.")


class Mirror(BaseModel):
    """A share of requests is asked of stable and candidate once more, to compare their answers."""

    model_config = ConfigDict(frozen=True)

    percent: int = Field(ge=1, le=100)
    max_tokens: int = Field(ge=1, le=256)


class Route(BaseModel):
    """Where requests for one name go: a deployment's, or an attached adapter's. No replicas: it exists, but nothing is ready."""

    model_config = ConfigDict(frozen=True)

    deployment: str = Field(description="The name that requests carry as their model.")
    deployment_id: str
    parent: str | None = Field(default=None, description="Of an adapter: the deployment that serves it.")
    project_id: str
    created_at: datetime
    variants: list[Variant] = Field(
        description="Stable first. One whose percent is 0 gets only requests that ask for it, and mirrored ones."
    )
    split: Split | None = Field(default=None, description="None: each request is dealt out on its own.")
    mirror: Mirror | None = None
    wakes: bool = Field(default=False, description="It was scaled to zero: requests wait for the replica that they bring up.")
    capture: CaptureSettings | None = None

    @property
    def replicas(self) -> list[RoutedReplica]:
        """The replicas of every variant."""
        return [replica for variant in self.variants for replica in variant.replicas]


class RoutedKey(BaseModel):
    """A key as the gateway knows it: its hash."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    key_hash: str
    project_id: str
    role: Role
    limits: KeyLimits = KeyLimits()
    expires_at: datetime | None = Field(default=None, description="From then on it is refused, though no newer routes have come.")


class RouteSnapshot(BaseModel):
    """Everything a gateway needs to serve, at one revision. Swapped whole, kept on disk."""

    model_config = ConfigDict(frozen=True)

    object: Literal["routes"] = "routes"
    revision: int
    routes: list[Route]
    keys: list[RoutedKey]
