"""Recalibrate jobs: the recipe that serves now, on the newest text, from the master."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from quantry_core.jobs.specs.quantize import QuantizeSpec
from quantry_core.jobs.specs.references import CandidateAlias, DatasetRef, DeploymentName, Spec, VersionRef
from quantry_core.jobs.states import JobType


class JudgedBy(StrEnum):
    """What two quantized versions are compared by."""

    KL = "kl"
    """The mean KL divergence from the master: what quantization lost of it."""
    LOG_LOSS = "log_loss"
    """The mean log-loss on the text itself, whatever the master makes of it."""


class RecalibrateSpec(Spec):
    """Quantizes the master again with the recipe of the version that serves, and compares the two."""

    type: Literal[JobType.RECALIBRATE] = JobType.RECALIBRATE
    serving: VersionRef | None = Field(default=None, description="The version to do better than; or give deployment.")
    deployment: DeploymentName | None = Field(default=None, description="The deployment whose version serves now; or give serving.")
    datasets: list[DatasetRef] = Field(min_length=1, max_length=16, description="Calibration text; a bare name is its newest version.")
    corpora: list[DatasetRef] = Field(min_length=1, max_length=16, description="Text that the two versions are compared on.")
    margin_nats: float = Field(
        default=0.01,
        ge=0,
        le=10,
        description="The candidate is no worse where the interval of its change against the serving version ends below this, nats a token.",
    )
    judged_by: JudgedBy = Field(
        default=JudgedBy.KL, description="Of what that change is: kl (from the master) or log_loss; both are measured."
    )
    window_tokens: int = Field(default=256, ge=16, le=32768)
    max_windows: int | None = Field(default=None, ge=1)
    alias: CandidateAlias = Field(default="candidate", description="Moved to the new version if it is no worse on any corpus.")
    rollout: bool = Field(default=False, description="Submits a rollout of the candidate to the deployment.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    recipe: QuantizeSpec | None = Field(
        default=None,
        description="Filled in at submission: what the serving version was made by, on the new text. Never given.",
        json_schema_extra={"readOnly": True},
    )

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.recipe is None and (self.serving is None) == (self.deployment is None):
            raise ValueError("give one of serving and deployment")
        if self.rollout and self.deployment is None:
            raise ValueError("a rollout goes to a deployment: name it")
        return self
