"""Which modules an adapter is put on, told by names and shapes alone: at submission from headers, in the child from the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.families import is_router
from quantry_core.linears import Shape, is_named

MAX_NAMES_TOLD = 12


def targeted_modules(modules: Mapping[str, Shape], targets: str | Sequence[str]) -> list[str]:
    """Returns the full names of the linear modules that an adapter is put on, sorted.

    ``modules`` are a model's linear modules by full name, without the output layer. ``targets`` is ``all-linear``, which leaves
    routers of experts out, or names: the last part of a module's name (q_proj), its whole name, or a glob over the whole name.
    Raises InvalidInput naming every target that no module has.
    """
    if isinstance(targets, str):
        return sorted(name for name in modules if not is_router(name))
    named = {target: {name for name in modules if _is_target(name, target)} for target in targets}
    missing = [target for target, names in named.items() if not names]
    if missing:
        last_names = sorted({name.rpartition(".")[2] for name in modules})
        there = ", ".join(last_names[:MAX_NAMES_TOLD]) + (" and more" if len(last_names) > MAX_NAMES_TOLD else "")
        sentence = f"no linear module of the model is called {' or '.join(map(repr, missing))}; there are {there}"
        raise InvalidInput(sentence, errors=[FieldProblem(field="spec.adapter.target_modules", message=sentence)])
    return sorted(set().union(*named.values()))


def check_rank(modules: Mapping[str, Shape], targeted: Collection[str], rank: int) -> None:
    """Raises InvalidInput for a rank that is more than the shorter side of a module: an update of that shape has no such rank."""
    narrow = {name: min(modules[name]) for name in targeted if min(modules[name]) < rank}
    if not narrow:
        return
    name = min(narrow, key=lambda module: (narrow[module], module))
    sentence = (
        f"rank {rank} is more than the {narrow[name]} that the shorter side of {name} has; "
        f"take rank {narrow[name]} or less, or leave such modules out of target_modules"
    )
    raise InvalidInput(sentence, errors=[FieldProblem(field="spec.adapter.rank", message=sentence)])


def _is_target(name: str, target: str) -> bool:
    return name.rpartition(".")[2] == target or is_named(name, (target,))
