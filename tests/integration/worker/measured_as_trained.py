"""Run in the ml environment: takes a step of mixed precision beside bfloat16 weights, and tells what is left when steps are over.

``python measured_as_trained.py <master>``; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from quantry_core.jobs.specs.finetune import AdapterSpec
from quantry_worker.child.training.adapters import attach
from quantry_worker.child.training.measuring import end_steps, trained_model


def dtypes(model: Any) -> dict[str, torch.dtype]:
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def main(master: Path) -> dict[str, Any]:
    base = AutoModelForCausalLM.from_pretrained(master, dtype=torch.bfloat16).requires_grad_(False)
    model = attach(base, AdapterSpec(rank=2)).train()
    before = dtypes(model)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    plain = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    prepared, optimizer = accelerator.prepare(model, plain)
    ids = torch.arange(16).reshape(2, 8)
    accelerator.backward(prepared(input_ids=ids, labels=ids).loss)
    optimizer.step()
    said: dict[str, Any] = {"num_states": len(plain.state)}
    trainer = SimpleNamespace(model=prepared, optimizer=optimizer, accelerator=accelerator)
    end_steps(trainer)
    found = trained_model(trainer)
    said["num_states_left"] = len(plain.state)
    said["num_gradients_left"] = sum(parameter.grad is not None for parameter in found.parameters())
    said["is_as_trained"] = dtypes(found) == before
    said["dtypes"] = sorted({str(dtype) for dtype in before.values()})
    said["is_evaluating"] = not found.training
    with accelerator.autocast(), torch.no_grad():
        after = found(input_ids=ids).logits.dtype
        with found.disable_adapter():
            said["is_alike"] = found(input_ids=ids).logits.dtype == after
    return said


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
