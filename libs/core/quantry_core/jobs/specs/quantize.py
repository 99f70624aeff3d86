"""Quantize jobs: method, scheme, calibration, mixed precision by hand, and the quality that is asked of the result."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.evaluate import TasksSpec
from quantry_core.jobs.specs.references import DatasetRef, ModulePattern, RefersTo, SchemeName, Spec, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.methods import (
    CHANNEL,
    SCHEMES,
    Environment,
    Granularity,
    GroupSize,
    Method,
    MethodChoice,
    OptionValue,
    Weights,
    check_patterns,
    choose,
    choose_weights,
)
from quantry_core.thresholds import Measured, Part, check_thresholds

BUILT_IN_QUALITY_CORPUS = "builtin.prose.test"
"""The text on which quality is measured where a job names none."""
MAX_PATTERNS = 256
"""Of one job: each is tried on every module, of which large models have tens of thousands."""


class CalibrationSpec(Spec):
    """Which text a method sees to fit its rounding."""

    datasets: list[DatasetRef] = Field(min_length=1, max_length=16)
    num_samples: int = Field(default=64, ge=1, le=4096, description="Samples drawn over all datasets.")
    length_tokens: int = Field(default=256, ge=16, le=32768, description="Tokens of one sample.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class ModuleOverride(Spec):
    """Other precision for some modules. Of several overrides that name a module the last one counts."""

    modules: list[ModulePattern] = Field(min_length=1, max_length=64)
    scheme: SchemeName | None = Field(default=None, description="One of the method's; the job's where not given.")
    group_size: GroupSize | None = Field(
        default=None, description="The job's where not given; schemes that fix how weights share scales take none."
    )


class QualitySpec(Spec):
    """What a quantized version must keep of its master's quality to be ready."""

    corpora: list[DatasetRef] = Field(
        default_factory=list, max_length=16, description=f"Text it is measured on; {BUILT_IN_QUALITY_CORPUS} where none is named."
    )
    thresholds: dict[str, float] = Field(
        default={"perplexity_ratio": 1.02},
        min_length=1,
        max_length=64,
        description="A bound for each metric by name, as in task:piqa.acc: an upper one where less is better, else a lower one. "
        "Figures of text are judged on every corpus.",
    )
    window_tokens: int = Field(default=256, ge=16, le=32768, description="Length of one scored window; at most the model's context.")
    max_windows: int = Field(default=64, ge=1, le=100_000, description="Scores only the first windows of each corpus.")
    extremes: bool = Field(default=False, description="The version must run on empty, huge, odd and longest inputs with finite logits.")
    tasks: TasksSpec | None = Field(default=None, description="Tasks that it and its master are tried on.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the bootstrap and of everything else that is drawn.")

    @model_validator(mode="after")
    def _measures_what_it_bounds(self) -> Self:
        # Text and attention maps are always there, and the master is the reference.
        parts = {Part.CORPORA, Part.ATTENTION}
        parts |= ({Part.EXTREMES} if self.extremes else set()) | ({Part.TASKS} if self.tasks is not None else set())
        tasks = [] if self.tasks is None else self.tasks.names
        check_thresholds(self.thresholds, Measured(parts=frozenset(parts), has_reference=True, tasks=tasks))
        return self


class QuantizationRecipe(Spec):
    """How a 16-bit version is quantized: all of a quantize job but what it is made from."""

    method: Annotated[str, RefersTo("method")] = Field(default="gptq", max_length=64)
    scheme: SchemeName | None = Field(default=None, description="The method's first where not given.")
    group_size: GroupSize | None = Field(
        default=None, description="Weights that share one scale, or channel; the method's default where not given."
    )
    options: dict[str, OptionValue] = Field(default_factory=dict, max_length=32, description="Of the method; see /api/v1/methods.")
    ignore: list[ModulePattern] = Field(
        default=["lm_head"], max_length=64, description="Modules kept at 16 bit: exact names, globs, or re:<regular expression>."
    )
    keep_16bit: list[ModulePattern] = Field(
        default_factory=list, max_length=64, description="Further modules kept at 16 bit, beside those that ignore names."
    )
    overrides: list[ModuleOverride] = Field(default_factory=list, max_length=64, description="Mixed precision by hand.")
    kv_cache: Literal["fp8"] | None = Field(default=None, description="Calibrates scales for an fp8 KV cache too.")
    calibration: CalibrationSpec | None = Field(default=None, description="Needed by methods that fit to text, and for KV scales.")
    quality: QualitySpec | None = Field(default=QualitySpec(), description="null: the version is ready without a look at its quality.")

    @property
    def kept_patterns(self) -> list[str]:
        """Patterns of all modules that stay at 16 bit."""
        return [*self.ignore, *self.keep_16bit]

    @property
    def has_kv_scales(self) -> bool:
        """Tells whether scales of an fp8 KV cache are calibrated."""
        return self.kv_cache is not None or self.method == Method.KV_CACHE

    @property
    def quality_corpora(self) -> list[DatasetRef]:
        """The datasets that quality is measured on; none if it is not measured."""
        if self.quality is None:
            return []
        return self.quality.corpora or [BUILT_IN_QUALITY_CORPUS]


class QuantizeSpec(QuantizationRecipe):
    """Makes a quantized version from 16-bit weights."""

    type: Literal[JobType.QUANTIZE] = JobType.QUANTIZE
    base: VersionRef = Field(description="A master, or 16-bit weights that were trained or merged.")


def chosen(spec: QuantizationRecipe) -> MethodChoice:
    """Returns what a quantize spec chose, checked as far as that goes without its master.

    Raises UnknownMethod, UnknownScheme or InvalidInput naming the field and what there is.
    """
    choice = choose(spec.method, spec.scheme, spec.group_size, spec.options)
    info = choice.info
    num_patterns = len(spec.kept_patterns) + sum(len(override.modules) for override in spec.overrides)
    if num_patterns > MAX_PATTERNS:
        raise InvalidInput(
            f"ignore, keep_16bit and overrides have {num_patterns} patterns together, more than the {MAX_PATTERNS} of one job"
        )
    check_patterns("ignore", spec.ignore)
    check_patterns("keep_16bit", spec.keep_16bit)
    if spec.overrides and not info.takes_overrides:
        raise InvalidInput(f"method {info.method} gives every module the same scheme; leave overrides out")
    for override in spec.overrides:
        check_patterns("overrides", override.modules)
        overridden(choice, spec, override)
    if spec.kv_cache is not None and not info.takes_kv_cache:
        raise InvalidInput(f"method {info.method} calibrates no KV cache along; make one of method kv-cache, or leave kv_cache out")
    is_needed = choice.needs_calibration or spec.has_kv_scales
    if is_needed and spec.calibration is None:
        what = "KV cache scales are" if not choice.needs_calibration else f"scheme {choice.scheme} of method {info.method} is"
        raise InvalidInput(f"{what} fitted to text: name calibration.datasets, for example builtin.prose.calibration")
    if spec.quality is not None and spec.quality.tasks is not None and info.environment is not Environment.ML:
        raise InvalidInput(
            f"method {info.method} runs where lm-evaluation-harness is not: leave quality.tasks out, and evaluate afterwards"
        )
    if spec.calibration is not None and not is_needed:
        raise InvalidInput(f"scheme {choice.scheme} of method {info.method} looks at weights alone; leave calibration out")
    return choice


def overridden(choice: MethodChoice, spec: QuantizationRecipe, override: ModuleOverride) -> Weights:
    """Returns how the weights of modules are stored that an override names; raises UnknownScheme or InvalidInput."""
    scheme = override.scheme or choice.scheme
    weights = choose_weights(choice.info, scheme, override.group_size, symmetric=choice.weights.symmetric)
    if override.group_size is not None or SCHEMES[weights.scheme].granularity is not None:
        return weights
    return choose_weights(choice.info, scheme, spec.group_size, symmetric=choice.weights.symmetric)


def written_out(spec: QuantizeSpec) -> QuantizeSpec:
    """Returns a spec that makes the same, with every default of its method written out: what a version's recipe says."""
    choice = chosen(spec)
    weights = choice.weights
    size: GroupSize | None = weights.group_size
    if SCHEMES[weights.scheme].granularity is None and weights.granularity is Granularity.CHANNEL:
        size = CHANNEL
    return spec.model_copy(update={"scheme": weights.scheme.value, "group_size": size, "options": dict(choice.options)})
