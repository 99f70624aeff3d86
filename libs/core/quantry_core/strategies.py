"""How a rollout moves traffic from one release to the next: closed specs, from which the controller takes its stages."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from quantry_core.rules import AnalysisSpec

WHOLE_PERCENT = 100


class StrategyName(StrEnum):
    IMMEDIATE = "immediate"
    BLUE_GREEN = "blue_green"
    CANARY = "canary"
    AB = "ab"
    SHADOW = "shadow"


class OnInconclusive(StrEnum):
    """What happens where an analysis has not come to a verdict in its time. Never a promotion."""

    PAUSE = "pause"
    ROLL_BACK = "roll_back"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImmediateStrategy(_Closed):
    """Replicas of the new release take the places of the old one's, some at a time; promoted once all are ready."""

    name: Literal[StrategyName.IMMEDIATE] = StrategyName.IMMEDIATE
    max_surge: int = Field(default=16, ge=0, le=16, description="Replicas that may run beyond the release's number meanwhile.")
    max_unavailable: int = Field(default=0, ge=0, le=16, description="Replicas that may be missing of the release's number meanwhile.")

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        if not self.max_surge and not self.max_unavailable:
            raise ValueError("max_surge and max_unavailable are both 0: no replica could ever be replaced")
        return self


class BlueGreenStrategy(_Closed):
    """The new release comes up whole beside the old one, without traffic; then all traffic moves at once."""

    name: Literal[StrategyName.BLUE_GREEN] = StrategyName.BLUE_GREEN
    pause: bool = Field(default=False, description="Wait for a person to resume before the traffic moves.")


class CanaryStep(_Closed):
    """One step: the candidate gets a share, for a while, and its evidence is judged."""

    percent: int = Field(ge=1, le=WHOLE_PERCENT, description="The candidate's share of requests.")
    wait_s: float = Field(default=0.0, ge=0, le=7 * 86400, description="At least so long, whatever the analysis says.")
    analysis: bool = Field(default=True, description="Whether the verdict must be pass before the next step.")
    pause: bool = Field(default=False, description="Wait for a person to resume before the next step.")


class CanaryStrategy(_Closed):
    """The candidate's share grows step by step, as long as what is measured of it is as good as the stable release."""

    name: Literal[StrategyName.CANARY] = StrategyName.CANARY
    steps: list[CanaryStep] = Field(
        default=[CanaryStep(percent=10), CanaryStep(percent=50), CanaryStep(percent=WHOLE_PERCENT, analysis=False)],
        min_length=1,
        max_length=20,
    )
    analysis: AnalysisSpec = AnalysisSpec()
    step_timeout_s: float = Field(default=3600.0, gt=0, le=7 * 86400, description="A step without a verdict for so long is inconclusive.")
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE

    @model_validator(mode="after")
    def _ends_at_100(self) -> Self:
        percents = [step.percent for step in self.steps]
        if percents != sorted(set(percents)):
            raise ValueError(f"the steps' shares must grow from one to the next, not {', '.join(map(str, percents))}")
        if percents[-1] != WHOLE_PERCENT:
            raise ValueError(f"the last step must have {WHOLE_PERCENT} percent, not {percents[-1]}: a canary ends by serving everything")
        return self


class StickyBy(StrEnum):
    """What keeps a client with one variant: a header's value, OpenAI's ``user`` field, or a hash of the prompt's bytes."""

    HEADER = "header"
    USER = "user"
    HASH = "hash"


HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$", to_lower=True)]


class AbStrategy(_Closed):
    """A fixed split that keeps each client with its variant, until a verdict or a deadline."""

    name: Literal[StrategyName.AB] = StrategyName.AB
    percent: int = Field(default=50, ge=1, le=99, description="The candidate's share of clients.")
    sticky_by: StickyBy = StickyBy.USER
    header: HeaderName | None = Field(default=None, description="Of sticky_by header: its name.")
    analysis: AnalysisSpec = AnalysisSpec()
    deadline_s: float = Field(default=86400.0, gt=0, le=90 * 86400, description="No verdict by then is inconclusive.")
    on_inconclusive: OnInconclusive = OnInconclusive.ROLL_BACK

    @model_validator(mode="after")
    def _names_its_header(self) -> Self:
        if (self.sticky_by is StickyBy.HEADER) != (self.header is not None):
            raise ValueError("sticky_by 'header' and a header's name go together")
        return self


class OnShadowPass(StrEnum):
    """What follows a shadow that passed."""

    PROMOTE = "promote"
    PAUSE = "pause"


class ShadowStrategy(_Closed):
    """A share of requests is asked of both releases once more, greedily; nobody gets those answers, they are compared."""

    name: Literal[StrategyName.SHADOW] = StrategyName.SHADOW
    percent: int = Field(default=10, ge=1, le=WHOLE_PERCENT, description="Share of live requests that are compared.")
    max_tokens: int = Field(default=16, ge=1, le=256, description="Tokens compared of each.")
    max_disagreement: float = Field(default=0.15, gt=0, lt=1, description="Share of compared tokens that may differ, on average.")
    max_logprob_divergence: float = Field(
        default=0.3, gt=0, le=10, description="Mean absolute difference of the logprobs of shared tokens, in nats."
    )
    deadline_s: float = Field(default=3600.0, gt=0, le=90 * 86400, description="No verdict by then is inconclusive.")
    on_pass: OnShadowPass = OnShadowPass.PAUSE
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE


Strategy = Annotated[ImmediateStrategy | BlueGreenStrategy | CanaryStrategy | AbStrategy | ShadowStrategy, Field(discriminator="name")]
