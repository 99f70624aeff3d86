"""Check ``fused-groups``: modules that engines join into one matrix product share one scheme.

vLLM joins q, k and v, gate and up, and all experts of a layer. It reads one scheme for the whole, so a module of another one is
misread or refused.
"""

from __future__ import annotations

from collections import defaultdict

from quantry_core.families import expert_groups, fused_groups
from quantry_core.gate import GateCheck
from quantry_core.methods import Format
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import StatedWeights, StoredCheckpoint
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.plan import names_in_words


def check_fused_groups(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored = given.stored
    if given.plan.method.format is Format.GGUF:
        # llama.cpp joins nothing, and a K-quant scheme mixes block types by design.
        return evidence(GateCheck.FUSED_GROUPS, [], {"num_groups": 0})
    linears = {*given.plan.targets, *given.plan.kept}
    groups = [*fused_groups(linears), *expert_groups(linears)]
    problems = [problem for group in groups for problem in _problems(group, stored)]
    return evidence(GateCheck.FUSED_GROUPS, problems, {"num_groups": len(groups)})


def _problems(group: list[str], stored: StoredCheckpoint) -> list[str]:
    by_scheme: dict[StatedWeights | None, list[str]] = defaultdict(list)
    for name in group:
        module = stored.modules.get(name)
        # What says it is quantized and is not is judged by what lies there.
        is_plain = module is None or not any(part in stored.info.tensors for part in module.parts())
        by_scheme[None if is_plain or module is None else module.stated].append(name)
    if len(by_scheme) < 2:
        return []
    each = "; ".join(f"{'16 bit' if scheme is None else _in_words(scheme)}: {names_in_words(names)}" for scheme, names in by_scheme.items())
    return [f"{names_in_words(group)} are fused by vLLM but do not share one scheme: {each}"]


def _in_words(stated: StatedWeights) -> str:
    size = "" if stated.group_size is None else f" of {stated.group_size}"
    return f"{stated.bits:g}-bit {stated.number_type} a {stated.granularity}{size}{'' if stated.symmetric else ' with zero points'}"
