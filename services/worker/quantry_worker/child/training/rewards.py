"""The table of rewards as functions: what an answer is worth, from 0 to 1. Pure; no code of a user's ever runs."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from quantry_core.jobs.specs.finetune import RewardSpec
from quantry_core.training import Reward

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class Answered(NamedTuple):
    """An answer, and what it is judged by."""

    prompt: str
    answer: str
    reference: str = ""
    """The row's response; empty for rewards that compare with none."""
    target: float = 0.0
    """What ``target_length`` asks for, in characters."""


def reward_of(spec: RewardSpec, prompt: str, answer: str, reference: str) -> float:
    """Returns what one reward of a spec says of an answer, from 0 to 1, its weight not counted."""
    return FUNCTIONS[spec.name](Answered(prompt, answer, reference, spec.target or 0.0))


def reward_names(rewards: list[RewardSpec]) -> list[str]:
    """Returns a name for each reward of a spec: its own, with its number from the second of one name on."""
    names = [one.name.value for one in rewards]
    before = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name}_{count + 1}" if count else name for name, count in zip(names, before, strict=True)]


def _exact_match(given: Answered) -> float:
    return float(given.answer.strip() == given.reference.strip())


def _contains_reference(given: Answered) -> float:
    return float(given.reference.strip() in given.answer)


def _reference_f1(given: Answered) -> float:
    """F1 of two bags of words, cleaned as the evaluation of SQuAD does (Rajpurkar et al. 2016, arXiv:1606.05250)."""
    answer, reference = _words(given.answer), _words(given.reference)
    if not answer or not reference:
        return float(answer == reference)
    num_shared = (Counter(answer) & Counter(reference)).total()
    return 2 * num_shared / (len(answer) + len(reference))


def _words(text: str) -> list[str]:
    """Returns the words of a text in lower case, punctuation and articles removed."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _json_valid(given: Answered) -> float:
    # Numbers stay text: how many digits they have is no matter of JSON. NaN and Infinity, which Python reads, are not JSON.
    try:
        json.loads(given.answer, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return 0.0
    return 1.0


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _target_length(given: Answered) -> float:
    return max(0.0, 1.0 - abs(len(given.answer) - given.target) / given.target)


def _no_repetition(given: Answered) -> float:
    words = given.answer.lower().split()
    return len(set(words)) / len(words) if words else 0.0


FUNCTIONS: dict[Reward, Callable[[Answered], float]] = {
    Reward.EXACT_MATCH: _exact_match,
    Reward.CONTAINS_REFERENCE: _contains_reference,
    Reward.REFERENCE_F1: _reference_f1,
    Reward.JSON_VALID: _json_valid,
    Reward.TARGET_LENGTH: _target_length,
    Reward.NO_REPETITION: _no_repetition,
}
