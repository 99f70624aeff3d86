"""Thresholds on what a job measures: one grammar for their names, one table of directions, and what must be measured for each.

A name says what is bound:

- ``perplexity_ratio``: a figure of text, judged on every corpus; ``attention_similarity_min``: one of attention maps.
- ``task:<name>.<metric>``: a task's metric; ``task:<name>.<metric>.<filter>`` where the harness names a filter.
- ``task:<name>.<metric>_change``: the same less the reference's.
- ``extremes.<metric>``: the worst of the odd inputs; ``speed.<metric>``: the worst number of requests at once.
- ``weights_bytes``, ``weights_ratio``, ``bits_per_parameter``: the size of the weights.

A bound is an upper one where less is better, else a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from quantry_core.metrics import ATTENTION_METRICS, METRICS, Better


class Part(StrEnum):
    """What a metric is measured on."""

    CORPORA = "corpora"
    ATTENTION = "attention"
    EXTREMES = "extremes"
    TASKS = "tasks"
    SIZE = "size"
    SPEED = "speed"


EXTREMES_METRICS: dict[str, Better] = {
    # Cases that raised, or whose logits are not finite.
    "num_failed": Better.LOWER,
    "kl_mean_nats": Better.LOWER,
    "top1_agreement": Better.HIGHER,
    # Share of the greedy tokens before the first that differs.
    "same_tokens": Better.HIGHER,
}
SIZE_METRICS: dict[str, Better] = {
    "weights_bytes": Better.LOWER,
    # Bytes over the reference's.
    "weights_ratio": Better.LOWER,
    # Bits of the files for each parameter of the reference.
    "bits_per_parameter": Better.LOWER,
}
SPEED_METRICS: dict[str, Better] = {
    "ttft_ms_p50": Better.LOWER,
    "ttft_ms_p95": Better.LOWER,
    "tpot_ms_p50": Better.LOWER,
    "tpot_ms_p95": Better.LOWER,
    "latency_ms_p50": Better.LOWER,
    "latency_ms_p95": Better.LOWER,
    "output_tokens_per_s": Better.HIGHER,
    "requests_per_s": Better.HIGHER,
    "memory_peak_bytes": Better.LOWER,
}
TASK_METRICS: dict[str, Better] = {
    "acc": Better.HIGHER,
    "acc_norm": Better.HIGHER,
    "acc_mutual_info": Better.HIGHER,
    "acc_bytes": Better.HIGHER,
    "acc_all": Better.HIGHER,
    "likelihood": Better.HIGHER,
    "exact_match": Better.HIGHER,
    "f1": Better.HIGHER,
    "mcc": Better.HIGHER,
    "bleu": Better.HIGHER,
    "chrf": Better.HIGHER,
    "chrf++": Better.HIGHER,
    "ter": Better.LOWER,
    "brier_score": Better.LOWER,
    "perplexity": Better.LOWER,
    "word_perplexity": Better.LOWER,
    "byte_perplexity": Better.LOWER,
    "bits_per_byte": Better.LOWER,
}
"""Metrics of lm-evaluation-harness, in the direction that it states."""
TASK_PREFIX, CHANGE_SUFFIX = "task:", "_change"
_NEEDED: dict[Part, str] = {
    Part.CORPORA: "text to be measured on: name corpora",
    Part.ATTENTION: "attention maps: ask for attention too",
    Part.EXTREMES: "the odd inputs: ask for extremes too",
    Part.TASKS: "its task: name it in tasks.names",
    Part.SPEED: "a measurement of speed: ask an evaluate job for speed",
}


class Threshold(NamedTuple):
    """What the name of a threshold says."""

    part: Part
    better: Better
    needs_reference: bool
    task: str | None = None


@dataclass(frozen=True)
class Measured:
    """What a job measures. The size of the weights is always at hand."""

    parts: frozenset[Part]
    has_reference: bool
    tasks: Sequence[str] = ()


def threshold_of(name: str) -> Threshold:
    """Returns what a name says; raises ValueError for one that names no metric, with those that there are."""
    if name in METRICS:
        part = Part.ATTENTION if name in ATTENTION_METRICS else Part.CORPORA
        return Threshold(part, METRICS[name].better, METRICS[name].needs_reference)
    if name in SIZE_METRICS:
        return Threshold(Part.SIZE, SIZE_METRICS[name], needs_reference=name != "weights_bytes")
    of, _, metric = name.partition(".")
    if of == Part.EXTREMES and metric in EXTREMES_METRICS:
        return Threshold(Part.EXTREMES, EXTREMES_METRICS[metric], needs_reference=metric != "num_failed")
    if of == Part.SPEED and metric in SPEED_METRICS:
        return Threshold(Part.SPEED, SPEED_METRICS[metric], needs_reference=False)
    found = _of_task(name.removeprefix(TASK_PREFIX)) if name.startswith(TASK_PREFIX) else None
    if found is None:
        raise ValueError(f"there is no metric {name!r} to set a threshold on; there are: {', '.join(_names())}")
    return found


def check_thresholds(thresholds: Mapping[str, float], measured: Measured) -> None:
    """Raises ValueError naming a metric that there is not or that the job does not measure, or a bound that is no finite number."""
    for name, bound in thresholds.items():
        found = threshold_of(name)
        if not math.isfinite(bound):
            raise ValueError(f"the threshold of {name} is {bound}; a finite number is needed")
        is_measured = found.part is Part.SIZE or (found.part in measured.parts and (found.task is None or found.task in measured.tasks))
        if not is_measured:
            raise ValueError(f"a threshold on {name} needs {_NEEDED[found.part]}")
        if found.needs_reference and not measured.has_reference:
            raise ValueError(f"a threshold on {name} needs a reference: name against")


def thresholds_on(thresholds: Mapping[str, float], part: Part, task: str | None = None) -> dict[str, float]:
    """Returns the thresholds that are judged on one part, of the tasks those on one task."""
    return {name: bound for name, bound in thresholds.items() if (found := threshold_of(name)).part is part and found.task == task}


def is_within(name: str, value: float, bound: float) -> bool:
    """Tells whether a metric keeps its threshold. NaN keeps none."""
    return value <= bound if threshold_of(name).better is Better.LOWER else value >= bound


def _of_task(rest: str) -> Threshold | None:
    """Reads ``<task>.<metric>`` or ``<task>.<metric>.<filter>``; tasks have dots in their names too, filters have none."""
    before, _, last = rest.removesuffix(CHANGE_SUFFIX).rpartition(".")
    task, metric = (before, last) if last in TASK_METRICS else before.rpartition(".")[::2]
    if not task or metric not in TASK_METRICS:
        return None
    return Threshold(Part.TASKS, TASK_METRICS[metric], needs_reference=rest.endswith(CHANGE_SUFFIX), task=task)


def _names() -> list[str]:
    named = [*METRICS, *SIZE_METRICS]
    named += [f"{Part.EXTREMES}.{metric}" for metric in EXTREMES_METRICS] + [f"{Part.SPEED}.{metric}" for metric in SPEED_METRICS]
    return [*named, f"{TASK_PREFIX}<name>.<metric> and {TASK_PREFIX}<name>.<metric>{CHANGE_SUFFIX} of {', '.join(TASK_METRICS)}"]
