"""Evaluate jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from quantry_core.jobs.specs.references import DatasetRef, Spec, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.thresholds import Measured, Part, check_thresholds

TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""A task of lm-evaluation-harness."""


class SpeedSpec(Spec):
    """Measures a real engine that serves the version."""

    concurrency: list[Annotated[int, Field(ge=1, le=256)]] = Field(
        default=[1, 4], min_length=1, max_length=8, description="Requests at once; each is measured by itself."
    )
    prompt_tokens: int = Field(default=64, ge=1, le=32768)
    output_tokens: int = Field(default=32, ge=2, le=4096)
    num_requests: int = Field(default=16, ge=1, le=4096, description="For each concurrency, after one that is not counted.")


class TasksSpec(Spec):
    """Tasks of lm-evaluation-harness."""

    names: list[TaskName] = Field(min_length=1, max_length=32)
    num_fewshot: int | None = Field(default=None, ge=0, le=64, description="Examples in the prompt; the task's own number where not given.")
    limit: int | None = Field(default=None, ge=1, description="Documents of each task; all where not given.")


class EvaluateSpec(Spec):
    """Measures a version: perplexity on corpora, closeness to a reference version, behaviour, tasks, speed."""

    type: Literal[JobType.EVALUATE] = JobType.EVALUATE
    version: VersionRef
    against: VersionRef | None = Field(default=None, description="Reference of KL, agreement and intervals; usually the master.")
    corpora: list[DatasetRef] = Field(default_factory=list, max_length=16)
    window_tokens: int = Field(default=256, ge=16, le=32768, description="Length of one scored window.")
    stride_tokens: int | None = Field(
        default=None,
        ge=1,
        le=32768,
        description="Tokens from one window's start to the next, at most window_tokens; only what the last window did not see is scored.",
    )
    max_windows: int | None = Field(default=None, ge=1, description="Scores only the first windows of each corpus; None scores all.")
    thresholds: dict[str, float] = Field(
        default_factory=dict,
        max_length=64,
        description="A bound for each metric by name, as in task:piqa.acc; they decide each verdict. "
        "perplexity_ratio 1.02 where corpora are compared with a reference and none is named.",
    )
    attention: bool = Field(default=False, description="Compares the attention maps of each layer with the reference's.")
    extremes: bool = Field(default=False, description="Looks at behaviour on empty, huge, odd and longest inputs.")
    tasks: TasksSpec | None = None
    speed: SpeedSpec | None = None
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the bootstrap and of everything else that is drawn.")

    @model_validator(mode="before")
    @classmethod
    def _has_a_threshold_where_one_can_be_measured(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("corpora") and given.get("against") and "thresholds" not in given:
            return given | {"thresholds": {"perplexity_ratio": 1.02}}
        return given

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.corpora or self.extremes or self.tasks or self.speed):
            raise ValueError("nothing is asked for: name corpora, tasks, extremes or speed")
        if self.attention and (self.against is None or not self.corpora):
            raise ValueError("attention maps are compared with those of a reference, on corpora: name against and corpora")
        if self.stride_tokens is not None and self.stride_tokens > self.window_tokens:
            raise ValueError("stride_tokens is more than window_tokens: tokens in between would never be scored")
        asked = {
            Part.CORPORA: bool(self.corpora),
            Part.ATTENTION: self.attention,
            Part.EXTREMES: self.extremes,
            Part.TASKS: self.tasks is not None,
            Part.SPEED: self.speed is not None,
        }
        check_thresholds(
            self.thresholds,
            Measured(
                parts=frozenset(part for part, is_asked in asked.items() if is_asked),
                has_reference=self.against is not None,
                tasks=[] if self.tasks is None else self.tasks.names,
            ),
        )
        return self
