"""What an answer can be rewarded for: one literal table. No code of a user's ever runs."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from quantry_core.errors import InvalidInput


class Reward(StrEnum):
    """Rewards by name."""

    EXACT_MATCH = "exact_match"
    CONTAINS_REFERENCE = "contains_reference"
    REFERENCE_F1 = "reference_f1"
    JSON_VALID = "json_valid"
    TARGET_LENGTH = "target_length"
    NO_REPETITION = "no_repetition"


class RewardInfo(NamedTuple):
    """What a reward looks at. Every one is from 0 (worst) to 1 (best)."""

    reward: Reward
    words: str
    needs_reference: bool
    """It compares with the row's response."""
    needs_target: bool = False
    """It is given a number, ``target``."""


_ROWS = (
    RewardInfo(Reward.EXACT_MATCH, "1 where the answer is the row's response, white space at the ends aside; else 0.", True),
    RewardInfo(Reward.CONTAINS_REFERENCE, "1 where the answer holds the row's response; else 0.", True),
    RewardInfo(Reward.REFERENCE_F1, "F1 of the words that the answer and the row's response share, as SQuAD counts them.", True),
    RewardInfo(Reward.JSON_VALID, "1 where the answer is one JSON value and nothing else; else 0.", False),
    RewardInfo(
        Reward.TARGET_LENGTH, "1 where the answer has target characters, falling in a line to 0 at none or at twice as many.", False, True
    ),
    RewardInfo(Reward.NO_REPETITION, "Different words of the answer as a share of all of them; 0 for an empty answer.", False),
)

REWARDS: dict[Reward, RewardInfo] = {row.reward: row for row in _ROWS}


def reward_info(name: str) -> RewardInfo:
    """Returns a reward of the table; raises InvalidInput naming those that there are."""
    if name not in set(Reward):
        raise InvalidInput(f"there is no reward {name[:64]!r}; there are {', '.join(Reward)}")
    return REWARDS[Reward(name)]
