"""The comparison of a shadow: one prompt, asked greedily of two releases, and how far their answers lie apart.

Pure: what is asked is made of the live request's body, what is compared is read from the answers' bodies.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

from quantry_core.traffic import MAX_DIVERGENCE

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

_PROMPT_FIELDS = {
    COMPLETIONS_PATH: ("model", "prompt", "add_special_tokens", "truncate_prompt_tokens"),
    CHAT_PATH: (
        "model",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "add_special_tokens",
    ),
}
"""What of a request makes the prompt. The rest says how to sample, or how to answer: a pair is sampled greedily."""


class NoPair(Exception):
    """The live request is none that can be asked again."""


class NotComparable(Exception):
    """The answer holds no tokens with logprobs that numbers can be made of."""


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of an answer as text, and the natural logarithm of the probability that it was given."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class PairScore:
    """disagreement: the share of positions whose tokens differ. divergence: in nats, at most MAX_DIVERGENCE."""

    disagreement: float
    divergence: float


def model_of(body: bytes) -> str:
    """Returns the name that a request asks for; raises NoPair where its body names none."""
    model = _object(body).get("model")
    if not isinstance(model, str):
        raise NoPair("the body names no model")
    return model


def pair_body(path: str, body: bytes, *, max_tokens: int) -> bytes:
    """Returns the body that asks for at most ``max_tokens`` greedy tokens after a live request's prompt, with their logprobs.

    Of several prompts in one request it takes the first. Raises NoPair where the body has no prompt.
    """
    document = _object(body)
    asked = {name: document[name] for name in _PROMPT_FIELDS[path] if document.get(name) is not None}
    asked |= {"temperature": 0, "n": 1, "max_tokens": max_tokens, "stream": False, "return_token_ids": True}
    if path == CHAT_PATH:
        if not asked.get("messages"):
            raise NoPair("the body has no messages")
        asked["logprobs"] = True
        if "tools" in asked:
            # They belong to the prompt; a call of one would be taken out of the tokens that are compared.
            asked["tool_choice"] = "none"
    else:
        asked["prompt"] = _first_prompt(asked.get("prompt"))
        asked["logprobs"] = 1
    return json.dumps(asked, separators=(",", ":")).encode()


def tokens_of(body: bytes) -> list[ScoredToken]:
    """Returns the tokens of the first choice of an answer; raises NotComparable.

    Engines write logprobs of completions in OpenAI's older shape (two lists), those of chats in its newer one (a list of tokens);
    some write the newer one for both.
    """
    try:
        logprobs = json.loads(body)["choices"][0]["logprobs"]
        if logprobs.get("content") is not None:
            pairs = [(token["token"], token["logprob"]) for token in logprobs["content"]]
        else:
            pairs = list(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise NotComparable("the answer holds no logprobs") from error
    return [_scored(text, logprob) for text, logprob in pairs]


def compare(stable: list[ScoredToken], candidate: list[ScoredToken]) -> PairScore:
    """Returns how far two answers to one prompt lie apart.

    Tokens are compared position by position over the longer answer. Logprobs are compared where both releases had read the same
    text, which ends with the first token that differs; where not even the first one is shared the divergence is 0, and the
    disagreement tells.
    """
    num_positions = max(len(stable), len(candidate))
    if not num_positions:
        return PairScore(disagreement=0.0, divergence=0.0)
    num_same = sum(mine.text == theirs.text for mine, theirs in zip(stable, candidate, strict=False))
    differences = [abs(stable[at].logprob - candidate[at].logprob) for at in range(num_shared(stable, candidate))]
    divergence = math.fsum(differences) / len(differences) if differences else 0.0
    return PairScore(disagreement=1 - num_same / num_positions, divergence=min(divergence, MAX_DIVERGENCE))


def num_shared(stable: list[ScoredToken], candidate: list[ScoredToken]) -> int:
    """Returns how many tokens two answers begin with that are the same."""
    pairs = zip(stable, candidate, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0].text == pair[1].text, pairs))


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoPair("the body is no JSON") from error
    if not isinstance(document, dict):
        raise NoPair("the body is no object")
    return document


def _first_prompt(prompt: object) -> object:
    """Returns one prompt: text, or a list of token ids."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if not prompt or not isinstance(prompt, str | list):
        raise NoPair("the body has no prompt")
    return prompt


def _scored(text: object, logprob: object) -> ScoredToken:
    if not isinstance(text, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float) or not math.isfinite(logprob):
        raise NotComparable("a token has no finite logprob")
    return ScoredToken(text=text, logprob=float(logprob))
