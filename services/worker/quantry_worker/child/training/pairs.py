"""Pairs of answers to one prompt, a chosen and a rejected one: read from rows, and judged by a model's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_worker.child.training.answers import Encoded, Part, encode, fitting, rows_of
from quantry_worker.child.training.log_probs import answer_log_probs, reference_log_probs
from quantry_worker.child.training.order import HeldOutScores, TrainingOrder
from quantry_worker.child.training.writing import Writer

MARGIN = "log_prob_margin_nats"
"""What the scores of pairs are called: how much more probable the chosen answer is than the rejected one."""


def pairs_of(order: TrainingOrder, part: Part) -> list[Encoded]:
    """Returns the pairs of an order's rows, by its overlong policy; raises InvalidInput for rows that are none, and as ``fitting`` does."""
    rows = rows_of(order, part)
    other = next((row.kind for _, row in rows.numbered if row.kind is not DatasetKind.PREFERENCES), None)
    if other is not None:
        raise InvalidInput(
            f"dataset {rows.dataset_ref} holds {other}; {order.spec.method.type} learns from {DatasetKind.PREFERENCES}: "
            "pairs of a chosen and a rejected answer"
        )
    writer = Writer(order.tokenizer, rows.dataset_ref)
    encoded = (encode(writer, number, row.messages, (row.chosen, row.rejected)) for number, row in rows.numbered)
    return fitting(order, rows, encoded)


def score_pairs(order: TrainingOrder, trainer: Any) -> HeldOutScores:
    """Returns the margin of each held-out pair: log-probability of its chosen answer less that of the rejected one, in nats.

    Figures: ``win_rate``, the share of pairs with a margin above zero, and where the trainer knows what the model was before,
    ``reward_win_rate`` and ``reward_margin`` of DPO's implicit reward, beta (log p - log p of the reference): the change of the
    margin by beta (Rafailov et al. 2023, section 5.1). A draw is half a win.
    """
    sequences = [(one.prompt, answer) for one in pairs_of(order, Part.VALIDATION) for answer in one.answers]
    margins = _margins(answer_log_probs(trainer, trainer.model, sequences))
    figures = {"win_rate": win_rate(margins)}
    before = reference_log_probs(trainer, sequences)
    if before is not None:
        changes = margins - _margins(before)
        figures |= {"reward_win_rate": win_rate(changes), "reward_margin": float(trainer.beta * changes.mean())}
    return HeldOutScores(MARGIN, margins, np.ones(len(margins)), figures)


def win_rate(margins: NDArray[np.float64]) -> float:
    """Returns the share of positive margins, zeros counted half."""
    return float(((margins > 0) + 0.5 * (margins == 0)).mean())


def _margins(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    pairs = log_probs.reshape(-1, 2)
    return pairs[:, 0] - pairs[:, 1]
