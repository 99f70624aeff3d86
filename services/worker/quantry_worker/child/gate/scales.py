"""Check ``scales``: scales are finite and fitted, zero points lie among the levels, and both are packed as the layout says.

Scales are positive, but for AutoRound's symmetric integers: it puts the one level more that negative numbers have at the
largest weight, so that a scale takes that weight's sign.
"""

from __future__ import annotations

import numpy as np

from quantry_core.gate import GateCheck
from quantry_core.methods import Backend, Format
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import Float32, Levels
from quantry_worker.child.gate.findings import GateInput, evidence

MAX_SHARE_AT_EDGE = 0.5
"""Share of a module's zero points that may lie on the lowest or highest level. There a group's weights are all of one sign,
which in a group of 32 or more is chance or a gated layer's few; a packing that was misread gives zeros for half and more."""


def check_scales(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored = given.stored
    may_be_negative = given.plan.method.backend is Backend.AUTO_ROUND and given.plan.method.format is not Format.GGUF
    problems: list[str] = []
    num_scales = 0
    for name, module in stored.modules.items():
        if not stored.has_parts(module):
            problems.append(f"{name}: its scales cannot be read, the form of its tensors is wrong")
            continue
        levels = module.levels()
        num_scales += sum(scales.size for scales in levels.scales.values())
        problems += levels.problems
        for part, scales in levels.scales.items():
            can_be_negative = may_be_negative and module.stated.symmetric
            problems += scale_problems(part, scales, may_be_one=part in levels.may_be_one, may_be_negative=can_be_negative)
        problems += zero_point_problems(name, levels)
    return evidence(GateCheck.SCALES, problems, {"num_scales": num_scales})


def scale_problems(name: str, scales: Float32, *, may_be_one: bool, may_be_negative: bool) -> list[str]:
    """Returns what is wrong with one tensor of scales."""
    if not np.isfinite(scales).all():
        return [f"{name}: a scale is infinite or not a number"]
    is_wrong = scales == 0 if may_be_negative else scales <= 0
    if is_wrong.any():
        return [f"{name}: {int(is_wrong.sum())} scales are not positive" if not may_be_negative else f"{name}: {int(is_wrong.sum())} are 0"]
    if not may_be_one and (scales == 1).all():
        return [f"{name}: every scale is 1, so none was fitted"]
    return []


def zero_point_problems(name: str, levels: Levels) -> list[str]:
    """Returns what is wrong with a module's zero points: outside the levels, or so many at their edge that they were misread."""
    zero_points = levels.zero_points
    if zero_points is None:
        return []
    is_outside = (zero_points < 0) | (zero_points >= levels.num_levels)
    if is_outside.any():
        worst = int(zero_points[is_outside].flat[0])
        return [f"{name}: {int(is_outside.sum())} zero points lie outside the levels 0 to {levels.num_levels - 1} (the first is {worst})"]
    is_at_edge = (zero_points == 0) | (zero_points == levels.num_levels - 1)
    if levels.num_levels > 4 and is_at_edge.mean() > MAX_SHARE_AT_EDGE:
        return [f"{name}: {is_at_edge.mean():.0%} of its zero points lie on the lowest or highest level: they are not packed as stated"]
    return []
