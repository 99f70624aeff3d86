"""What a strategy comes down to: stages that a candidate goes through one after the other, and the rules it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from quantry_core.rollouts import Rollout
from quantry_core.rules import AnalysisSpec
from quantry_core.strategies import (
    AbStrategy,
    BlueGreenStrategy,
    CanaryStrategy,
    ImmediateStrategy,
    OnInconclusive,
    OnShadowPass,
    ShadowStrategy,
    Strategy,
)


@dataclass(frozen=True)
class Stage:
    """A share of traffic for the candidate, and what must have happened before it goes on from there. After the last one it is promoted.

    A stage begins when every replica of the candidate is ready, and is left in this order: its wait is over, its verdict is pass, a
    person has resumed it. A verdict that is fail ends the rollout at any time.
    """

    percent: int = 0
    mirror_percent: int = 0
    wait_s: float = 0.0
    needs_verdict: bool = False
    """Only a verdict of pass leads on."""
    pause: bool = False
    """A person must let it go on."""
    timeout_s: float | None = None
    """Seconds after which a stage that needs a verdict and has none is inconclusive."""
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE

    @property
    def is_exposed(self) -> bool:
        """Whether the candidate answers requests in it, so that there is something to judge."""
        return self.percent > 0 or self.mirror_percent > 0

    @property
    def is_passage(self) -> bool:
        """Whether there is nothing in it to wait for."""
        return not (self.is_exposed or self.wait_s or self.needs_verdict or self.pause)


WITHOUT_STABLE = (Stage(),)
"""The first release of a deployment has nothing to be compared with, and nobody is served meanwhile: it is promoted once it is ready."""


def stages_of(strategy: Strategy, *, has_stable: bool) -> tuple[Stage, ...]:
    """Returns a strategy's stages in order, at least one; ``has_stable``: another release serves meanwhile."""
    if not has_stable:
        return WITHOUT_STABLE
    match strategy:
        case ImmediateStrategy():
            return (Stage(),)
        case BlueGreenStrategy():
            return (Stage(pause=strategy.pause),)
        case CanaryStrategy():
            return tuple(
                Stage(
                    percent=step.percent,
                    wait_s=step.wait_s,
                    needs_verdict=step.analysis,
                    pause=step.pause,
                    timeout_s=strategy.step_timeout_s,
                    on_inconclusive=strategy.on_inconclusive,
                )
                for step in strategy.steps
            )
        case AbStrategy():
            return (
                Stage(
                    percent=strategy.percent,
                    needs_verdict=True,
                    timeout_s=strategy.deadline_s,
                    on_inconclusive=strategy.on_inconclusive,
                ),
            )
        case ShadowStrategy():
            return (
                Stage(
                    mirror_percent=strategy.percent,
                    needs_verdict=True,
                    pause=strategy.on_pass is OnShadowPass.PAUSE,
                    timeout_s=strategy.deadline_s,
                    on_inconclusive=strategy.on_inconclusive,
                ),
            )


def rollout_stages(rollout: Rollout) -> tuple[Stage, ...]:
    """Returns the stages of a rollout."""
    return stages_of(rollout.strategy, has_stable=rollout.from_release_id is not None)


def stage_now(rollout: Rollout) -> Stage:
    """Returns the stage that a rollout is at, or waits to begin."""
    stages = rollout_stages(rollout)
    return stages[min(rollout.stage, len(stages) - 1)]


def analysis_of(rollout: Rollout) -> AnalysisSpec | None:
    """Returns the rules that one look at a rollout's evidence goes by; None where its strategy has none.

    Each stage that is judged stands on evidence of its own, and so does the watch after the promotion. The bound on wrong verdicts is
    of the whole rollout: each of them gets an equal part of it.
    """
    if rollout.from_release_id is None:
        return None
    match rollout.strategy:
        case CanaryStrategy(analysis=analysis) | AbStrategy(analysis=analysis):
            return analysis.model_copy(update={"error_probability": analysis.error_probability / num_judged(rollout)})
        case _:
            return None


def num_judged(rollout: Rollout) -> int:
    """Returns how many sets of evidence a rollout is judged by: at least 1.

    Every stage with a share counts, also one that is left at once: somebody may hold the rollout there, and it is judged while it stays.
    """
    stages = rollout_stages(rollout)
    has_watch = rollout.watch_s > 0 and not isinstance(rollout.strategy, ShadowStrategy)
    return max(1, sum(stage.is_exposed for stage in stages) + has_watch)
