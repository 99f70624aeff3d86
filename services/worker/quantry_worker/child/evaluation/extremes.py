"""How a model behaves on inputs at the edges: does it run, are its logits finite, how does it go on, does it agree with its reference.

The texts are fixed, so that two versions can be compared by their cases.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from quantry_core.families import context_tokens
from quantry_core.thresholds import Part
from quantry_core.versions import Verdict
from quantry_worker.child.numerics.divergence import kl_nats, same_top1

CONTINUATION_TOKENS = 8
LOOKED_AT_TOKENS = 64
"""Logits are looked at behind so many of the last tokens: what is not finite earlier stays so in all that follow."""
MAX_CONTEXT_TOKENS = 32_768
"""A longer context is tried up to here."""
DEFAULT_CONTEXT_TOKENS = 2048
"""Where config.json states none."""
MAX_ERROR_CHARS = 300
PREFIX = f"{Part.EXTREMES}."
"""Of the names of thresholds."""

PARAGRAPH = (
    "The harbour was quiet before dawn. Two boats came in with the tide, and nobody on the quay asked where they had been. "
    "By noon the market was full; salt, rope and oranges changed hands, and the price of each was shouted twice. "
)


@dataclass(frozen=True)
class Extreme:
    name: str
    text: str
    fills_context: bool = False
    """The text is repeated until the model's context is full."""


EXTREMES = (
    Extreme("empty", ""),
    Extreme("ten-thousand-characters", (PARAGRAPH * (10_000 // len(PARAGRAPH) + 1))[:10_000]),
    # C0 and C1 controls, a soft hyphen, zero-width characters, direction marks, a byte order mark.
    Extreme("control-characters", "".join(map(chr, [*range(32), 127, *range(128, 160), 0xAD, *range(0x200B, 0x2010), 0x202E, 0xFEFF]))),
    # Beyond the basic plane, skin tones, joined sequences, flags, a keycap.
    Extreme(
        "emoji",
        "\U0001f600\U0001f44d\U0001f3fd\U0001f469\u200d\U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467"
        "\U0001f1ea\U0001f1fa\U0001f3f4\u200d\u2620\ufe0f1\ufe0f\u20e3" * 8,
    ),
    Extreme("longest-context", PARAGRAPH, fills_context=True),
)

OnCase = Callable[[int, str], None]
"""Told how many cases are done, and which comes next."""


@dataclass(frozen=True)
class Answer:
    """What a model made of one case."""

    facts: dict[str, Any]
    """Whether it ran, and whether its logits are finite."""
    logits: torch.Tensor | None = None
    """Behind the last tokens, float32 [1, at most 64, V]; only of a case that ran and is finite."""
    continuation: list[int] = field(default_factory=list)


def answer_extremes(model: Any, tokenizer: Any, config: Any, on_case: OnCase) -> list[Answer]:
    """Returns a model's answer to each case. ``config`` says how long a text may be; the same one for models that are compared.

    A case that raises is a fact about the version, not the end of the job.
    """
    answers = []
    for index, extreme in enumerate(EXTREMES):
        on_case(index, extreme.name)
        try:
            answers.append(_answer(model, tokenizer, config, extreme))
        except (RuntimeError, ValueError, IndexError, TypeError, OverflowError) as error:
            answers.append(Answer({"runs": False, "error": f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]}))
    return answers


def compare_answers(ours: list[Answer], theirs: list[Answer] | None, tokenizer: Any) -> list[dict[str, Any]]:
    """Returns what happened in each case, and with a reference's answers how far both agree where both have finite logits."""
    cases = []
    for index, (extreme, mine) in enumerate(zip(EXTREMES, ours, strict=True)):
        facts = {"name": extreme.name, "num_characters": len(extreme.text)} | mine.facts
        if mine.logits is not None:
            facts["continuation"] = tokenizer.decode(mine.continuation)
            if theirs is not None:
                facts |= _agreement(mine, theirs[index])
        cases.append(facts)
    return cases


def extremes_figures(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the worst of all cases that were tried, by the names of thresholds; agreement only where every one has it."""
    tried = [case for case in cases if "skipped" not in case]
    if not tried:
        return {}
    figures: dict[str, float] = {f"{PREFIX}num_failed": sum(not (case["runs"] and case["is_finite"]) for case in tried)}
    if all("kl_mean_nats" in case for case in tried):
        figures[f"{PREFIX}kl_mean_nats"] = max(case["kl_mean_nats"] for case in tried)
        figures[f"{PREFIX}top1_agreement"] = min(case["top1_agreement"] for case in tried)
        figures[f"{PREFIX}same_tokens"] = min(case["num_same_tokens"] / case["num_continuation_tokens"] for case in tried)
    return figures


def verdict(cases: list[dict[str, Any]]) -> Verdict:
    """Returns fail if a case raised or its logits are not finite; a case that was skipped counts for nothing."""
    tried = [case for case in cases if "skipped" not in case]
    if not tried:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if all(case["runs"] and case["is_finite"] for case in tried) else Verdict.FAIL


def _answer(model: Any, tokenizer: Any, config: Any, extreme: Extreme) -> Answer:
    ids = _token_ids(tokenizer, extreme, config)
    if ids is None:
        return Answer({"skipped": "the tokenizer has no token that begins a text, so there is nothing to go on from"})
    logits = _last_logits(model, ids)
    is_finite = bool(torch.isfinite(logits).all())
    facts: dict[str, Any] = {"runs": True, "is_finite": is_finite, "num_tokens": ids.shape[1]}
    return Answer(facts, logits, _continue(model, ids, config)) if is_finite else Answer(facts)


def _token_ids(tokenizer: Any, extreme: Extreme, config: Any) -> torch.Tensor | None:
    """Returns the ids, shape [1, T], at most the context; None where there is no token at all. Of a longer text the end is kept."""
    ids = tokenizer(extreme.text, add_special_tokens=False, verbose=False).input_ids
    if not ids and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id]
    if not ids:
        return None
    if extreme.fills_context:
        return torch.from_numpy(np.resize(np.asarray(ids, dtype=np.int64), _longest(config)))[None]
    return torch.tensor([ids[-_longest(config) :]])


def _last_logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Returns the float32 logits behind the last tokens, shape [1, at most 64, V]."""
    takes_part = "logits_to_keep" in inspect.signature(model.forward).parameters
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, **({"logits_to_keep": LOOKED_AT_TOKENS} if takes_part else {})).logits
    return logits[:, -LOOKED_AT_TOKENS:].float()


def _continue(model: Any, ids: torch.Tensor, config: Any) -> list[int]:
    """Returns the likeliest next tokens, one after the other. Where the context is full, the oldest token makes room."""
    longest = max(ids.shape[1], _longest(config))
    continuation: list[int] = []
    for _ in range(CONTINUATION_TOKENS):
        likeliest = _last_logits(model, ids)[0, -1].argmax()
        continuation.append(int(likeliest))
        ids = torch.cat([ids, likeliest.reshape(1, 1)], dim=1)[:, -longest:]
    return continuation


def _longest(config: Any) -> int:
    return min(context_tokens(config.to_dict()) or DEFAULT_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)


def _agreement(ours: Answer, theirs: Answer) -> dict[str, Any]:
    if ours.logits is None or theirs.logits is None:
        return {"reference_is_finite": False}
    log_p, log_q = theirs.logits.log_softmax(-1), ours.logits.log_softmax(-1)
    same = [mine == other for mine, other in zip(ours.continuation, theirs.continuation, strict=True)]
    return {
        "kl_mean_nats": float(kl_nats(log_p, log_q).mean()),
        "top1_agreement": float(same_top1(log_p, log_q).mean()),
        "num_same_tokens": same.index(False) if False in same else len(same),
        "num_continuation_tokens": len(same),
    }
