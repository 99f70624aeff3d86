"""Odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691), by TRL's trainer on our own samples.

It lies in TRL's experimental part, which warns at import that it may change: the lock file pins what is imported here.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from datasets import Dataset
from trl.import_utils import TRLExperimentalWarning

from quantry_core.jobs.specs.finetune import OrpoMethod
from quantry_worker.child.training.answers import Encoded, Part
from quantry_worker.child.training.order import TrainingOrder
from quantry_worker.child.training.pairs import pairs_of, score_pairs
from quantry_worker.child.training.samples import IGNORED

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TRLExperimentalWarning)
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

__all__ = ["build", "score"]

score = score_pairs


class _Trainer(ORPOTrainer):
    """TRL's trainer, given samples that are tokens already."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:  # noqa: ARG002
        return feature

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """Returns what TRL does, but for the log-loss: of the chosen answers' tokens, as equation 6 of the paper has it.

        TRL takes it of their prompts as well. Log-probabilities of answers, shape [B], are means over their tokens.
        """
        chosen, rejected, chosen_logits, rejected_logits, _, *more = super().concatenated_forward(model, batch)
        num_tokens = (batch["chosen_labels"][:, 1:] != IGNORED).sum(dim=1).to(chosen.device)
        nll = -(chosen * num_tokens).sum() / num_tokens.sum()
        return chosen, rejected, chosen_logits, rejected_logits, nll, *more


def build(order: TrainingOrder) -> Any:
    """Returns the trainer. There is no reference: the odds are the model's own."""
    method = order.spec.method
    if not isinstance(method, OrpoMethod):
        raise ValueError(f"this module trains by orpo, not by {method.type}")
    return _Trainer(
        model=order.model,
        args=ORPOConfig(
            **order.arguments,
            beta=method.beta,
            max_length=order.spec.hyperparameters.sequence_tokens,
            # There is no reference that it would be noise to: dropout is what it is in supervised training.
            disable_dropout=False,
        ),
        train_dataset=_dataset(pairs_of(order, Part.TRAIN)),
        eval_dataset=_dataset(pairs_of(order, Part.VALIDATION)),
        processing_class=order.tokenizer,
        callbacks=order.callbacks,
    )


def _dataset(pairs: list[Encoded]) -> Dataset:
    return Dataset.from_list(
        [_fields("chosen", one.prompt, one.answers[0]) | _fields("rejected", one.prompt, one.answers[1]) for one in pairs]
    )


def _fields(name: str, prompt: list[int], answer: list[int]) -> dict[str, list[int]]:
    """Returns a sequence in the columns that the trainer's collator pads."""
    ids = prompt + answer
    return {
        f"{name}_input_ids": ids,
        f"{name}_attention_mask": [1] * len(ids),
        f"{name}_labels": [IGNORED] * len(prompt) + answer,
    }
