"""Which method learns from which datasets."""

from __future__ import annotations

import pytest

from quantry_core.datasets import DatasetKind
from quantry_core.training import TrainingMethod
from quantry_core.training.data import TAKEN_KINDS, not_learned_from, not_scored


def test_every_method_has_its_kinds_and_every_kind_a_method() -> None:
    assert TAKEN_KINDS.keys() == set(TrainingMethod)
    assert frozenset().union(*TAKEN_KINDS.values()) == set(DatasetKind)


@pytest.mark.parametrize("method", list(TrainingMethod))
@pytest.mark.parametrize("kind", list(DatasetKind))
def test_a_refusal_names_what_is_taken_and_who_takes_it(method: TrainingMethod, kind: DatasetKind) -> None:
    told = not_learned_from(method, kind)
    if kind in TAKEN_KINDS[method]:
        assert told is None
        return
    assert told is not None
    assert all(taken in told for taken in TAKEN_KINDS[method])
    instead = told.partition(": take ")[2].split(" or ")
    assert instead
    assert all(not_learned_from(TrainingMethod(other), kind) is None for other in instead)


def test_preferences_have_no_log_loss_of_their_own() -> None:
    assert not_scored(DatasetKind.CHAT) is None
    assert "this one is preferences" in str(not_scored(DatasetKind.PREFERENCES))
