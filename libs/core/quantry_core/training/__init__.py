"""The words of training: methods, adapters, distribution, rewards. No I/O and no library of training."""

from __future__ import annotations

from quantry_core.training.names import (
    LOSS_METHODS,
    REWARD_METHODS,
    AdapterKind,
    AdapterMerge,
    BasePrecision,
    MergeTarget,
    Overlong,
    Schedule,
    Strategy,
    TrainingMethod,
)
from quantry_core.training.rates import ADAPTER_RATES, FULL_RATES
from quantry_core.training.rewards import REWARDS, Reward, RewardInfo, reward_info
from quantry_core.training.serving_names import served_name
from quantry_core.training.targets import check_rank, targeted_modules
from quantry_core.training.untouched import CORPUS_WINDOW_TOKENS, CORPUS_WINDOWS

__all__ = [
    "ADAPTER_RATES",
    "CORPUS_WINDOWS",
    "CORPUS_WINDOW_TOKENS",
    "FULL_RATES",
    "LOSS_METHODS",
    "REWARDS",
    "REWARD_METHODS",
    "AdapterKind",
    "AdapterMerge",
    "BasePrecision",
    "MergeTarget",
    "Overlong",
    "Reward",
    "RewardInfo",
    "Schedule",
    "Strategy",
    "TrainingMethod",
    "check_rank",
    "reward_info",
    "served_name",
    "targeted_modules",
]
