"""The figures of a job from the facts of what it works on, and how earlier jobs correct them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import NamedTuple, assert_never

from quantry_core.estimates import memory, minutes, training, training_minutes
from quantry_core.estimates.adapters import adapter_bytes
from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.estimates.sizes import quantized_facts
from quantry_core.jobs import (
    DeploySpec,
    EstimateFigures,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    JobResult,
    JobSpec,
    JobType,
    MergeSpec,
    QuantizationRecipe,
    QuantizeSpec,
    RecalibrateSpec,
    Resource,
    chosen,
)
from quantry_core.sources import source_kind

MIN_EARLIER_JOBS = 3
MAX_EARLIER_JOBS = 20
MIN_CORRECTION, MAX_CORRECTION = 0.05, 20.0
SECONDS_PER_MINUTE = 60.0
NUM_COMPARED = 2
"""Versions that a recalibration scores beside the master."""
FIGURES = tuple(EstimateFigures.model_fields)
"""Names of the figures."""


@dataclass(frozen=True)
class Given:
    """What a job works on, as far as it is known; None where it is not."""

    main: CheckpointFacts | None = None
    """An import's source, the base of a quantize job, of a fine-tuning or of a recalibration, the 16-bit version that adapters are
    merged into, else the version that is evaluated or deployed."""
    reference: CheckpointFacts | None = None
    """What an evaluation compares with."""
    text_bytes: Sequence[int] = ()
    """Sizes of the texts that versions are scored on."""
    training_bytes: int | None = None
    """Size of the file that a fine-tune job learns from."""
    validation_bytes: int | None = None
    """Size of the file that it is measured on, where one is named."""


class EarlierJob(NamedTuple):
    """What was estimated of a job that succeeded, uncorrected, and what really happened."""

    estimated: EstimateFigures
    actual: EstimateFigures


def estimate_key(spec: JobSpec, resource: Resource) -> str:
    """Returns what jobs are compared by: type, method and resource. Jobs of one key are alike in what they spend time and memory on."""
    match spec:
        case ImportSpec():
            method = source_kind(spec.source)
        case QuantizeSpec():
            method = spec.method
        case FinetuneSpec():
            method = spec.method.type if spec.adapter is not None else f"{spec.method.type}-full"
        case MergeSpec():
            method = "measured" if spec.measure else "plain"
        case RecalibrateSpec():
            method = "again" if spec.recipe is None else spec.recipe.method
        case EvaluateSpec():
            method = "alone" if spec.against is None else "pair"
        case DeploySpec():
            method = spec.engine.engine
        case _:
            assert_never(spec)
    return f"{spec.type}/{method}/{resource}"


def estimate_figures(spec: JobSpec, given: Given, resource: Resource) -> EstimateFigures:
    """Returns what a job will take, uncorrected; None for what cannot be told of a checkpoint that is not known.

    Raises UnknownMethod, UnknownScheme or InvalidInput for a method that is none, and for target modules that a base has not.
    """
    main = given.main
    is_gpu = resource is Resource.GPU
    if isinstance(spec, ImportSpec):
        return EstimateFigures(
            result_bytes=None if main is None else main.weights_bytes,
            peak_ram_bytes=memory.import_ram_bytes(),
            minutes=None if main is None else minutes.import_minutes(main),
        )
    if main is None:
        return EstimateFigures()
    match spec:
        case QuantizeSpec():
            result = quantized_facts(main, spec)
            figures = EstimateFigures(
                result_bytes=result.weights_bytes,
                peak_ram_bytes=memory.quantize_ram_bytes(main, spec),
                peak_vram_bytes=memory.quantize_vram_bytes(main, spec) if is_gpu else None,
                minutes=minutes.quantize_minutes(main, result, spec, resource),
            )
        case FinetuneSpec():
            figures = _finetune_figures(spec, main, given, resource)
        case MergeSpec():
            figures = _merge_figures(spec, main, given)
        case EvaluateSpec():
            figures = _evaluate_figures(spec, main, given)
        case RecalibrateSpec():
            figures = EstimateFigures() if spec.recipe is None else _recalibrate_figures(spec, spec.recipe, main, given, resource)
        case DeploySpec():
            figures = EstimateFigures(
                peak_ram_bytes=memory.deploy_ram_bytes(main, spec),
                peak_vram_bytes=memory.deploy_vram_bytes(main, spec) if is_gpu else None,
                minutes=minutes.deploy_minutes(main),
            )
        case _:
            assert_never(spec)
    return figures


def _finetune_figures(spec: FinetuneSpec, main: CheckpointFacts, given: Given, resource: Resource) -> EstimateFigures:
    is_gpu = resource is Resource.GPU
    return EstimateFigures(
        result_bytes=main.weights_bytes if spec.adapter is None else adapter_bytes(main, spec.adapter),
        peak_ram_bytes=training.finetune_peak_bytes(main, spec, resource, of=Resource.CPU),
        peak_vram_bytes=training.finetune_peak_bytes(main, spec, resource, of=Resource.GPU) if is_gpu else None,
        minutes=training_minutes.finetune_minutes(
            main,
            spec,
            resource,
            training_bytes=given.training_bytes,
            validation_bytes=given.validation_bytes,
            text_bytes=given.text_bytes,
        ),
    )


def _merge_figures(spec: MergeSpec, main: CheckpointFacts, given: Given) -> EstimateFigures:
    """Of a recipe that is not found yet (as-base) no quantization is counted."""
    recipe = spec.quantize if isinstance(spec.quantize, QuantizationRecipe) else None
    return EstimateFigures(
        result_bytes=main.weights_bytes,
        peak_ram_bytes=training.merge_ram_bytes(main, spec, recipe),
        minutes=training_minutes.merge_minutes(main, spec, recipe, given.text_bytes),
    )


def _evaluate_figures(spec: EvaluateSpec, main: CheckpointFacts, given: Given) -> EstimateFigures:
    if spec.against is not None and given.reference is None:
        return EstimateFigures()
    return EstimateFigures(
        peak_ram_bytes=memory.evaluate_ram_bytes(main, given.reference, spec),
        minutes=minutes.evaluate_minutes(main, given.reference, spec, given.text_bytes, Resource.CPU),
    )


def _recalibrate_figures(
    spec: RecalibrateSpec, recipe: QuantizeSpec, master: CheckpointFacts, given: Given, resource: Resource
) -> EstimateFigures:
    """A quantize job, and in the same process what it made and the version that serves, which is as large, each beside the master."""
    candidate = quantized_facts(master, recipe)
    compared = EvaluateSpec(
        version=recipe.base, against=recipe.base, corpora=spec.corpora, window_tokens=spec.window_tokens, max_windows=spec.max_windows
    )
    imported = memory.METHOD_BASE_BYTES[chosen(recipe).info.backend] - memory.BASE_BYTES[JobType.EVALUATE]
    made_bytes = memory.quantize_ram_bytes(master, recipe)
    compared_bytes = imported + memory.evaluate_ram_bytes(candidate, candidate, compared)
    made_minutes = minutes.quantize_minutes(master, candidate, recipe, resource)
    compared_minutes = minutes.evaluate_minutes(candidate, candidate, compared, given.text_bytes, Resource.CPU)
    return EstimateFigures(
        result_bytes=candidate.weights_bytes,
        peak_ram_bytes=max(made_bytes, compared_bytes),
        peak_vram_bytes=memory.quantize_vram_bytes(master, recipe) if resource is Resource.GPU else None,
        minutes=made_minutes + NUM_COMPARED * compared_minutes,
    )


def actual_figures(result: JobResult, weights_bytes: int | None) -> EstimateFigures:
    """Returns what a job really took; ``weights_bytes`` are those of the version it made. Nothing for one that reused a version."""
    if result.reused:
        return EstimateFigures()
    return EstimateFigures(
        result_bytes=weights_bytes,
        peak_ram_bytes=result.peak_memory_bytes,
        peak_vram_bytes=result.peak_vram_bytes,
        minutes=None if result.seconds is None else result.seconds / SECONDS_PER_MINUTE,
    )


def ratios(actual: EstimateFigures, estimated: EstimateFigures) -> dict[str, float]:
    """Returns actual over estimate by figure, 1 where it was right, 2 where it took twice as much; only where both are known and
    above zero."""
    pairs = {name: (getattr(actual, name), getattr(estimated, name)) for name in FIGURES}
    # A worker may report what is no number; that tells nothing of the estimate.
    return {name: happened / said for name, (happened, said) in pairs.items() if happened and said and isfinite(happened)}


def corrections(earlier: Sequence[EarlierJob]) -> dict[str, float]:
    """Returns a factor by figure: the median of what happened over what was estimated, uncorrected.

    From MIN_EARLIER_JOBS jobs at least, clamped to [MIN_CORRECTION, MAX_CORRECTION]; a figure without as many is left out.
    """
    seen: dict[str, list[float]] = {}
    for job in earlier[:MAX_EARLIER_JOBS]:
        for name, ratio in ratios(job.actual, job.estimated).items():
            seen.setdefault(name, []).append(ratio)
    return {
        name: min(max(median(values), MIN_CORRECTION), MAX_CORRECTION) for name, values in seen.items() if len(values) >= MIN_EARLIER_JOBS
    }


def corrected(figures: EstimateFigures, factors: dict[str, float]) -> EstimateFigures:
    """Returns the figures times their factors; bytes stay whole numbers."""
    changed = {name: getattr(figures, name) * factor for name, factor in factors.items() if getattr(figures, name) is not None}
    whole = {name: value if name == "minutes" else round(value) for name, value in changed.items()}
    return figures.model_copy(update=whole)
