"""Eleven of the sixteen scenarios of `make chaos`, each a little, on a stack of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.platform import Chaos, chaos_stack
from chaos.scenarios import SCENARIOS, Scale, play

SHORT_FORMS = [2, 4, 5, 7, 10, 11, 12, 13, 14, 15, 16]
SEED = 20261122


@pytest.fixture(scope="module")
def chaos() -> Iterator[Chaos]:
    with chaos_stack() as running:
        yield running


@pytest.mark.parametrize("number", SHORT_FORMS, ids=[SCENARIOS[number].name for number in SHORT_FORMS])
def test_scenario(chaos: Chaos, number: int) -> None:
    result = play(chaos, number, SEED + number, Scale.SHORT)
    assert result.passed, result.line()
