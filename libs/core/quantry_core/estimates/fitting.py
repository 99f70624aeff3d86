"""What would make a fine-tune job fit that does not: found by trying changes of its spec on the estimate. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

from pydantic import ValidationError

from quantry_core.jobs import AdapterSpec, FinetuneSpec
from quantry_core.training import BasePrecision

MIN_SEQUENCE_TOKENS = 64
"""Shorter sequences are not proposed."""
MAX_COMBINED = 4

Fits = Callable[[FinetuneSpec], bool]
"""Tells whether a job of that spec fits."""


class Change(NamedTuple):
    """One field that is given another value."""

    words: str
    field: str
    """Changes of one field exclude each other."""
    spec: dict[str, object]
    """Fields of the spec, those of hyperparameters under their own."""


def fitting_changes(spec: FinetuneSpec, fits: Fits, *, is_packed: bool) -> list[str]:
    """Returns what makes a job fit, each alone; where none does, the fewest changes that do it together, as one sentence part.

    Of batch size and sequence length the largest that fits by halving. ``is_packed`` says that the base has fewer than 16 bits already.
    Empty where nothing helps.
    """
    alone: dict[str, str] = {}
    for change in _changes(spec, is_packed=is_packed):
        changed = _changed(spec, change)
        key = change.words if change.field == "base_precision" else change.field
        if key not in alone and changed is not None and fits(changed):
            alone[key] = change.words
    return list(alone.values()) or _together(spec, fits, is_packed=is_packed)


def _together(spec: FinetuneSpec, fits: Fits, *, is_packed: bool) -> list[str]:
    """The smallest number of changes, each as far as it goes, that fit together."""
    furthest = {change.field: change for change in _changes(spec, is_packed=is_packed)}
    if spec.adapter is None and not is_packed:
        # Together with an adapter the base can be rounded.
        furthest["base_precision"] = _rounding(BasePrecision.NF4)
    for number in range(2, min(MAX_COMBINED, len(furthest)) + 1):
        for combined in combinations(furthest.values(), number):
            changed: FinetuneSpec | None = spec
            for change in sorted(combined, key=lambda one: one.field != "adapter"):
                changed = None if changed is None else _changed(changed, change)
            if changed is not None and fits(changed):
                return [" with ".join(change.words for change in combined)]
    return []


def _changes(spec: FinetuneSpec, *, is_packed: bool) -> Iterator[Change]:
    given = spec.hyperparameters
    size = given.batch_size
    while size > 1:
        size //= 2
        yield Change(f"batch_size {size}", "batch_size", {"hyperparameters": {"batch_size": size}})
    length = given.sequence_tokens
    while length // 2 >= MIN_SEQUENCE_TOKENS:
        length //= 2
        yield Change(f"sequence_tokens {length}", "sequence_tokens", {"hyperparameters": {"sequence_tokens": length}})
    if not given.gradient_checkpointing:
        yield Change("gradient_checkpointing", "gradient_checkpointing", {"hyperparameters": {"gradient_checkpointing": True}})
    if spec.adapter is None:
        yield Change("an adapter instead of all weights", "adapter", {"adapter": AdapterSpec().model_dump()})
    elif not is_packed and spec.base_precision is None:
        yield _rounding(BasePrecision.INT8)
        yield _rounding(BasePrecision.NF4)
    elif spec.base_precision is BasePrecision.INT8:
        yield _rounding(BasePrecision.NF4)


def _rounding(precision: BasePrecision) -> Change:
    return Change(f"base_precision {precision}", "base_precision", {"base_precision": precision})


def _changed(spec: FinetuneSpec, change: Change) -> FinetuneSpec | None:
    """Returns the spec with a change; None where it cannot be, as a batch that its number of generations does not divide."""
    fields = spec.model_dump()
    for name, value in change.spec.items():
        fields[name] = fields[name] | value if isinstance(value, dict) and isinstance(fields[name], dict) else value
    try:
        return FinetuneSpec.model_validate(fields)
    except ValidationError:
        return None
