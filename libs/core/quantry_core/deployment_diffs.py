"""What tells apart what a deployment served: two of its releases, or two moments."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.comparisons import Comparison, FieldDifference, differences
from quantry_core.rollouts import Release, ServingPeriod


class ServedSide(BaseModel):
    """One side: a release, and the moment at which it served where one was asked for."""

    model_config = ConfigDict(frozen=True)

    release: Release
    at: datetime | None = Field(default=None, description="None: the release itself was asked for.")
    period: ServingPeriod | None = Field(
        default=None, description="What served at that moment; of several releases the one with the largest share is compared."
    )


class DeploymentDiff(BaseModel):
    """All that tells two sides apart: how they are served, and their versions with recipe and evidence."""

    model_config = ConfigDict(frozen=True)

    object: Literal["deployment.diff"] = "deployment.diff"
    left: ServedSide
    right: ServedSide
    config: list[FieldDifference] = Field(description="Engine, replicas, scaling, servers.")
    versions: Comparison = Field(description="Files, recipe, toolchain, verdicts and figures of the two versions; equal where it is one.")


def config_differences(left: Release, right: Release) -> list[FieldDifference]:
    """Returns how two releases are served otherwise, by dotted path."""
    return differences(_config(left), _config(right))


def _config(release: Release) -> dict[str, object]:
    return release.model_dump(mode="json", include={"num_replicas", "engine", "scaling", "servers"})
