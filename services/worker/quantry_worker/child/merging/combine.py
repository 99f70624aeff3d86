"""Several adapters' updates of one weight become one.

Each method works on whole updates W' - W, the task vectors of the papers: linear is their weighted sum (Ilharco et al. 2022,
arXiv:2212.04089), which PEFT calls ``cat``; ties (Yadav et al. 2023, arXiv:2306.01708) and dare (Yu et al. 2023, arXiv:2311.03099)
are PEFT's own functions, as it applies them in ``ties_svd`` and ``dare_linear_svd``, without a decomposition after them.
PEFT's plain ``linear`` and ``ties`` combine A and B by themselves instead, whose product has terms that no adapter has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from peft.utils.merge_utils import dare_linear, dare_ties, task_arithmetic, ties

from quantry_core.jobs import MergeSpec
from quantry_core.training import AdapterMerge
from quantry_worker.child.numerics.low_rank import Adapter

DEFAULT_DENSITY = 0.5

_PRUNING: Mapping[AdapterMerge, Callable[..., torch.Tensor]] = {
    AdapterMerge.TIES: ties,
    AdapterMerge.DARE_LINEAR: dare_linear,
    AdapterMerge.DARE_TIES: dare_ties,
}


@dataclass(frozen=True)
class Combination:
    """Adapters, what each counts for, and how they become one."""

    adapters: Sequence[Adapter]
    weights: Sequence[float]
    method: AdapterMerge = AdapterMerge.LINEAR
    density: float = DEFAULT_DENSITY
    """Of ties and dare: the share of each update that is kept."""
    seed: int = 0
    """Of what dare drops."""

    @property
    def modules(self) -> list[str]:
        """Modules that an adapter changes, sorted."""
        return sorted({module for adapter in self.adapters for module in adapter.shapes})

    @property
    def is_one(self) -> bool:
        """There is one adapter and it counts in full: an engine can serve it unmerged."""
        return len(self.adapters) == 1 and self.weights[0] == 1.0

    def update(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns what is added to a module's weight, [out, in] in its dtype; adapters that do not change the module count for nothing."""
        chosen = [(one, share) for one, share in zip(self.adapters, self.weights, strict=True) if module in one.shapes]
        updates = [one.update(module, weight) for one, _ in chosen]
        weights = torch.tensor([share for _, share in chosen], dtype=weight.dtype)
        if self.method is AdapterMerge.LINEAR:
            return task_arithmetic(updates, weights)
        # Of the module alone: what is dropped does not depend on the order in which weights are written.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed_of(self.seed, module))
            return _PRUNING[self.method](updates, weights, self.density)

    def as_json(self) -> dict[str, object]:
        """Returns how they became one, as a recipe keeps it."""
        settings: dict[str, object] = {"combination": self.method.value, "weights": list(self.weights)}
        if self.method is not AdapterMerge.LINEAR:
            settings |= {"density": self.density, "seed": self.seed}
        return settings


def combination_of(spec: MergeSpec, adapters: Sequence[Adapter]) -> Combination:
    """Returns what a spec asks for of the adapters it names, in their order."""
    density = DEFAULT_DENSITY if spec.density is None else spec.density
    return Combination(adapters, [share.weight for share in spec.adapters], spec.combination, density, spec.seed)


def _seed_of(seed: int, module: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{module}".encode()).digest()[:7], "big")
