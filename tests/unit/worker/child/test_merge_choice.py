"""The rule by which one of the measured ways is taken."""

from __future__ import annotations

import numpy as np
import pytest

from quantry_core.training import MergeTarget
from quantry_core.versions import Verdict
from quantry_worker.child.merging.choice import choice_evidence, choose
from quantry_worker.child.merging.losses import Losses, change

TOKENS = np.array([4.0, 9.0, 2.0, 7.0, 5.0, 3.0, 8.0, 6.0])
BASE = np.array([1.9, 2.4, 2.1, 2.0, 2.6, 1.7, 2.2, 2.3])
"""Log-loss of a token in each sample: far wider apart than the ways are."""


def losses(*shifts: float) -> Losses:
    """Returns what a model makes of eight samples: the base's losses a token, and so much more, in turn."""
    return Losses((BASE + np.resize(np.array(shifts), len(BASE))) * TOKENS, TOKENS)


def test_the_lowest_loss_a_token_is_chosen_whatever_is_simpler_to_serve() -> None:
    ways = {MergeTarget.MASTER: losses(0.02), MergeTarget.DEQUANTIZED_BASE: losses(0.03), MergeTarget.UNMERGED: losses(0.01)}
    assert choose(ways) is MergeTarget.UNMERGED
    # Of tokens, not of samples: the longest sample alone is worse here, and it decides.
    long_is_worse = Losses(BASE * TOKENS - np.where(TOKENS == 9, -2.0, 0.1), TOKENS)
    assert choose({MergeTarget.MASTER: long_is_worse, MergeTarget.UNMERGED: losses(0.0)}) is MergeTarget.UNMERGED
    assert choose({MergeTarget.MASTER: losses(0.0), MergeTarget.UNMERGED: losses(0.0)}) is MergeTarget.MASTER


def test_a_difference_that_every_sample_shows_is_beyond_noise() -> None:
    ways = {MergeTarget.MASTER: losses(0.02, 0.03), MergeTarget.DEQUANTIZED_BASE: losses(0.2), MergeTarget.UNMERGED: losses(0.0)}
    evidence = choice_evidence(ways, seed=0)
    assert (evidence.name, evidence.verdict) == ("choice", Verdict.PASS)
    assert evidence.metrics["is_beyond_noise"] is True
    assert evidence.metrics["within_noise_of_choice"] == []
    differences = {(one["way"], one["against"]): one for one in evidence.metrics["differences"]}
    assert differences.keys() == {("master", "dequantized-base"), ("master", "unmerged"), ("dequantized-base", "unmerged")}
    found = differences["dequantized-base", "unmerged"]
    assert [found[f"nll_increase{end}_nats"] for end in ("_low", "", "_high")] == pytest.approx([0.2] * 3)


def test_a_difference_that_samples_disagree_on_is_noise_and_the_lowest_is_taken_all_the_same() -> None:
    ways = {MergeTarget.MASTER: losses(0.3, -0.33), MergeTarget.UNMERGED: losses(0.0), MergeTarget.DEQUANTIZED_BASE: losses(1.0)}
    evidence = choice_evidence(ways, seed=0)
    best = min(ways, key=lambda way: ways[way].mean_nats)
    other = ({MergeTarget.MASTER, MergeTarget.UNMERGED} - {best}).pop()
    assert evidence.metrics["choice"] == best
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert evidence.metrics["within_noise_of_choice"] == [other]


def test_of_fewer_than_five_samples_no_interval_is_stated_and_nothing_is_beyond_noise() -> None:
    few = {way: Losses(one.sums[:4], one.counts[:4]) for way, one in ((MergeTarget.MASTER, losses(0.5)), (MergeTarget.UNMERGED, losses(0)))}
    found = change(few[MergeTarget.MASTER], few[MergeTarget.UNMERGED], seed=0)
    assert found == {"nll_increase_nats": pytest.approx(0.5), "nll_increase_low_nats": None, "nll_increase_high_nats": None}
    assert choice_evidence(few, seed=0).metrics["within_noise_of_choice"] == ["master"]


def test_the_interval_is_the_same_for_the_same_seed() -> None:
    first, second = losses(0.1, 0.4), losses(0.0)
    assert change(first, second, seed=1) == change(first, second, seed=1) != change(first, second, seed=2)
