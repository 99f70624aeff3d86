"""How a release scores a text that another one wrote: each token of it given the same words before it.

Two sound releases part at the first near tie, and from there on their answers cannot be compared. Scores can: the candidate reads what the
stable release wrote, and says at each token what it would have written there. Pure; of engines that have prompt_logprobs and token ids.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from quantry_core.traffic import MAX_DIVERGENCE
from quantry_gateway.pairs import NotComparable, PairScore, ScoredToken, compare, num_shared

MAX_TOKENS = 8192
"""Of prompt and answer: scores come for every token, those of the prompt too."""

CLEAR_NATS = 0.5
"""A first place so far ahead of the second is no near tie, in which the answer may well differ from the scores."""

_NUM_TOP = 2


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt and its answer, as token ids."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """What a release says of one token: its logprob, and by how much it comes first; None where another one does."""

    logprob: float
    lead_nats: float | None


def written_by(body: bytes) -> Written | None:
    """Returns the token ids of an answer and of its prompt; None where the engine does not tell them."""
    document = json.loads(body)
    choice = document["choices"][0]
    answer = choice.get("token_ids")
    prompt = choice.get("prompt_token_ids") or document.get("prompt_token_ids")
    if not _is_ids(prompt) or not _is_ids(answer) or not answer:
        return None
    return Written(prompt=prompt, answer=answer)


def score_body(model: str, written: Written) -> bytes:
    """Returns the body that asks, at /v1/completions, for the scores of a text."""
    asked = {
        "model": model,
        "prompt": [*written.prompt, *written.answer],
        "temperature": 0,
        "max_tokens": 1,
        "stream": False,
        "prompt_logprobs": _NUM_TOP,
    }
    return json.dumps(asked, separators=(",", ":")).encode()


def scores_of(body: bytes, written: Written) -> list[TokenScore] | None:
    """Returns the score of each token of the answer; None where the engine has none. Raises NotComparable for what is no number."""
    try:
        told = json.loads(body)["choices"][0].get("prompt_logprobs")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise NotComparable("the scores are no answer") from error
    if told is None:
        return None
    try:
        if len(told) != len(written.prompt) + len(written.answer):
            raise NotComparable("there are not as many scores as tokens")
        return [_score(entry, str(token)) for entry, token in zip(told[-len(written.answer) :], written.answer, strict=True)]
    except (LookupError, TypeError, AttributeError) as error:
        raise NotComparable("a token has no score") from error


def compare_scored(stable: list[ScoredToken], scores: list[TokenScore], own: list[ScoredToken]) -> PairScore:
    """Returns how far a candidate is from the stable release: by its scores of the stable release's answer, and by its own.

    A token differs where the candidate puts another one first. Scores are computed in one pass, answers token by token, by other kernels:
    so where the candidate's own answer parts from the stable release's against a clear score, all that follows differs. Of a token that
    both wrote after the same words, the logprob that is further off counts.
    """
    if len(scores) != len(stable):
        raise NotComparable("there are not as many scores as tokens")
    if not stable:
        return compare(stable, own)
    shared = num_shared(stable, own)
    lead_nats = scores[shared].lead_nats if shared < len(scores) else None
    is_contradicted = lead_nats is not None and lead_nats > CLEAR_NATS
    num_same = sum(score.lead_nats is not None for score in (scores[:shared] if is_contradicted else scores))
    differences = [abs(token.logprob - score.logprob) for token, score in zip(stable, scores, strict=True)]
    for at in range(shared):
        differences[at] = max(differences[at], abs(stable[at].logprob - own[at].logprob))
    divergence = math.fsum(differences) / len(differences)
    return PairScore(disagreement=1 - num_same / len(stable), divergence=min(divergence, MAX_DIVERGENCE))


def _score(entry: dict[str, dict[str, object]], token: str) -> TokenScore:
    ranked = {_rank(one): _finite(one["logprob"]) for one in entry.values()}
    logprob = _finite(entry[token]["logprob"])
    if _rank(entry[token]) != 1:
        return TokenScore(logprob, lead_nats=None)
    return TokenScore(logprob, lead_nats=logprob - ranked[2] if 2 in ranked else math.inf)


def _rank(entry: dict[str, object]) -> int:
    rank = entry["rank"]
    if not isinstance(rank, int):
        raise NotComparable("a score has no rank")
    return rank


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NotComparable("a score is not finite")
    return float(value)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(token, int) for token in value)
