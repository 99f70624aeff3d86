"""Corrections of vLLM, which calls ``apply`` in each of its processes: a plugin that serve.py puts on its path.

There is one. In a batch that mixes requests of the base model with requests of adapters, vLLM 0.32 on the CPU adds the update of
the last adapter to the base's tokens too: they have the index -1, and its PyTorch operations look up row -1 of the stacked weights
(vllm-project/vllm, pull request 48421). Its Triton kernels leave such tokens alone. Here the operations do so as well, once it was
seen that they do not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from vllm.lora.ops import torch_ops
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

Operation = Callable[..., None]


def apply() -> None:
    """Corrects what needs it in this process. A vLLM that does it right is left as it is."""
    if not updates_the_base(lora_ops.bgmv_shrink):
        return
    for name in ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"):
        corrected = leaving_the_base_alone(getattr(lora_ops, name))
        for module in (lora_ops, torch_ops, punica_cpu):
            setattr(module, name, corrected)


def updates_the_base(bgmv_shrink: Operation) -> bool:
    """Tells whether a token without an adapter gets the last adapter's update: one of the index -1 beside one of the index 0."""
    inputs, weights, output = torch.ones(2, 4), torch.ones(1, 1, 3, 4), torch.zeros(2, 3)
    bgmv_shrink(inputs, weights, output, torch.tensor([-1, 0]), 1.0)
    return bool(output[0].any())


def leaving_the_base_alone(operation: Operation) -> Operation:
    """Returns the operation with the inputs [num_tokens, features] of tokens without an adapter set to zero: zero is what it adds."""

    def corrected(
        inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, *others: object, **named: object
    ) -> None:
        operation(inputs.masked_fill((indices < 0).unsqueeze(-1), 0), weights, output, indices, *others, **named)

    return corrected
