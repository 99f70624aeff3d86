"""The texts that are shipped: whole, small, apart from one another, and from the corpora that are beside the example model."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_core.datasets import BUILT_IN_PREFIX, DatasetKind, DatasetOrigin
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS
from quantry_core.names import check_name
from quantry_registry.datasets.built_in import BUILT_INS, BuiltIn

CORPORA = Path(__file__).parents[3] / "examples" / "corpora"
BY_NAME = {built_in.name: built_in for built_in in BUILT_INS}


def test_the_text_that_jobs_use_by_default_is_among_them() -> None:
    assert BY_NAME[BUILT_IN_QUALITY_CORPUS].kind is DatasetKind.TEXT


@pytest.mark.parametrize("built_in", BUILT_INS, ids=lambda built_in: built_in.name)
def test_each_is_a_good_small_dataset_under_a_name_of_the_platforms_own(built_in: BuiltIn) -> None:
    assert check_name(built_in.name).startswith(BUILT_IN_PREFIX)
    draft = built_in.draft()
    assert (draft.kind, draft.origin) == (built_in.kind, DatasetOrigin.BUILT_IN)
    assert len(built_in.content) < 150_000
    assert draft.statistics.num_characters > 30_000


@pytest.mark.parametrize("part", ["calibration", "test"])
def test_prose_is_of_its_part_of_the_corpora(part: str) -> None:
    lines = {line for name in ("kjv", "shakespeare", "speeches") for line in (CORPORA / f"{name}.{part}.txt").read_text().splitlines()}
    assert set(BY_NAME[f"builtin.prose.{part}"].content.decode().splitlines()) <= lines


def test_what_is_measured_on_is_not_what_is_fitted_to() -> None:
    fitted, measured = (
        {line for line in BY_NAME[f"builtin.prose.{part}"].content.decode().splitlines() if len(line) > 60}
        for part in ("calibration", "test")
    )
    assert len(fitted & measured) <= 0.01 * len(measured)


def test_chats_are_of_different_rows_with_every_role() -> None:
    statistics = BY_NAME["builtin.chat.calibration"].draft().statistics
    assert statistics.num_duplicate_rows == 0
    assert statistics.num_messages is not None
    assert set(statistics.num_messages) == {"system", "user", "assistant"}
