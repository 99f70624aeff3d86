"""Every reward of the table beside values worked out by hand."""

from __future__ import annotations

import pytest

from quantry_core.jobs.specs.finetune import RewardSpec
from quantry_core.training import REWARDS, Reward
from quantry_worker.child.training.rewards import FUNCTIONS, reward_names, reward_of


def test_enum_table_and_functions_hold_the_same_rewards() -> None:
    assert set(Reward) == set(REWARDS) == set(FUNCTIONS)
    assert all(info.reward is reward for reward, info in REWARDS.items())


@pytest.mark.parametrize(
    ("name", "target", "answer", "reference", "expected"),
    [
        ("exact_match", None, " Paris\n", "Paris", 1.0),
        ("exact_match", None, "paris", "Paris", 0.0),
        ("exact_match", None, "Paris, France", "Paris", 0.0),
        ("contains_reference", None, "It is Paris, in France.", "Paris ", 1.0),
        ("contains_reference", None, "It is London.", "Paris", 0.0),
        # Words: cat sat on mat | cat sat. Two shared; precision 2/4, recall 2/2.
        ("reference_f1", None, "The cat sat on the mat.", "A cat sat!", 2 / 3),
        # A word that stands twice counts twice only where both have it twice: one of two, one of one.
        ("reference_f1", None, "ha ha", "ha", 2 / 3),
        ("reference_f1", None, "dog", "cat", 0.0),
        ("reference_f1", None, "", "cat", 0.0),
        # Nothing but articles and punctuation on both sides is the same nothing.
        ("reference_f1", None, "the", "an?", 1.0),
        ("reference_f1", None, "It's theatre", "its theatre", 1.0),
        ("json_valid", None, ' {"a": [1, 2.5, null]}\n', "", 1.0),
        ("json_valid", None, "9" * 5000, "", 1.0),
        ("json_valid", None, '{"a": 1} and more', "", 0.0),
        ("json_valid", None, '{"a": NaN}', "", 0.0),
        ("json_valid", None, "", "", 0.0),
        ("json_valid", None, "[" * 100_000, "", 0.0),
        ("target_length", 10, "0123456789", "", 1.0),
        ("target_length", 10, "01234", "", 0.5),
        ("target_length", 10, "012345678901234", "", 0.5),
        ("target_length", 10, "", "", 0.0),
        ("target_length", 10, "0" * 21, "", 0.0),
        ("no_repetition", None, "to be or not to be", "", 4 / 6),
        ("no_repetition", None, "The end of the end", "", 3 / 5),
        ("no_repetition", None, "one", "", 1.0),
        ("no_repetition", None, " \n", "", 0.0),
    ],
)
def test_a_reward_is_what_the_table_says(name: Reward, target: float | None, answer: str, reference: str, expected: float) -> None:
    assert reward_of(RewardSpec(name=name, target=target), "a prompt", answer, reference) == pytest.approx(expected, abs=1e-12)


def test_two_rewards_of_one_name_are_told_apart() -> None:
    names = (Reward.TARGET_LENGTH, Reward.JSON_VALID, Reward.TARGET_LENGTH)
    rewards = [RewardSpec(name=name, target=5 if name is Reward.TARGET_LENGTH else None) for name in names]
    assert reward_names(rewards) == ["target_length", "json_valid", "target_length_2"]
