"""The verdict on measured figures by a job's thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from quantry_core.metrics import Better
from quantry_core.thresholds import is_within, threshold_of
from quantry_core.versions import Verdict

_BOUNDS = {Better.LOWER: "at most", Better.HIGHER: "at least"}


def broken_thresholds(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    """Returns in words which thresholds the figures do not keep; a figure that is not there or not finite breaks none."""
    return [
        f"{name} is {figures[name]:.6g}, {_BOUNDS[threshold_of(name).better]} {bound:g} is asked for"
        for name, bound in thresholds.items()
        if _is_measured(figures, name) and not is_within(name, figures[name], bound)
    ]


def missing_figures(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    """Returns the names of the thresholds whose figures could not be measured, or are not finite."""
    return [name for name in thresholds if not _is_measured(figures, name)]


def verdict(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> Verdict:
    """Returns fail if a threshold is broken, else pass if all could be looked at; inconclusive otherwise, and where there is none."""
    if broken_thresholds(figures, thresholds):
        return Verdict.FAIL
    if not thresholds or missing_figures(figures, thresholds):
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def worst(found: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    """Returns for every name the worst of several figures; a name that one of them has no number for is left out."""
    every = list(found)
    chosen = {Better.LOWER: max, Better.HIGHER: min}
    return {
        name: chosen[threshold_of(name).better](one[name] for one in every)
        for name in names
        if every and all(_is_measured(one, name) for one in every)
    }


def _is_measured(figures: Mapping[str, Any], name: str) -> bool:
    value = figures.get(name)
    return isinstance(value, int | float) and math.isfinite(value)
