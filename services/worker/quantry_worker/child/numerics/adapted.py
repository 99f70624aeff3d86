"""A model with an adapter beside its weights, unmerged: what an engine computes that serves the adapter on its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers.pytorch_utils import Conv1D

from quantry_core.errors import InvalidInput
from quantry_core.linears import Shape
from quantry_worker.child.numerics.low_rank import check_fits, read_adapter
from quantry_worker.child.numerics.model import load_model
from quantry_worker.child.plan import names_in_words

ADAPTER_NAME = "default"
"""PEFT's name for the only adapter of a model."""
REPACKS = "support_avx512bf16_for_cpu"
"""Of bitsandbytes' 4-bit modules."""


def load_adapted(base_dir: Path, adapter_dir: Path) -> Any:
    """Returns the causal language model of a base of any format that ``load_model`` reads, float32, with the adapter unmerged by PEFT.

    It is the base's own class, its linear modules wrapped, in evaluation mode. Raises SourceRefused for a folder that holds no
    adapter, InvalidInput naming the modules where the adapter does not fit the base.
    """
    adapter = read_adapter(adapter_dir)
    model = load_model(base_dir)
    check_fits(adapter, _linears(model), words="the adapter", base=f"the {model.config.model_type} model it is put on")
    adapted = PeftModel.from_pretrained(model, str(adapter_dir), adapter_name=ADAPTER_NAME, is_trainable=False, torch_device="cpu")
    inner = adapted.get_base_model()
    for module in inner.modules():
        # bitsandbytes 0.50 lays weights out anew at the first product on a CPU with AVX512-BF16, and PEFT 0.21 then takes the norms
        # that DoRA divides by from the old layout.
        if hasattr(module, REPACKS):
            setattr(module, REPACKS, False)
    wrapped = {name for name, module in inner.named_modules() if isinstance(module, LoraLayer)}
    # PEFT wraps by the patterns of adapter_config.json; a module that they name and the file does not hold would stay untrained.
    if wrapped != adapter.shapes.keys():
        odd = sorted(wrapped ^ adapter.shapes.keys())
        raise InvalidInput(f"the adapter's target_modules and its tensors name different modules: {names_in_words(odd)}")
    return inner.eval()


def _linears(model: Any) -> dict[str, Shape]:
    """Returns the linear modules of a loaded model, quantized ones too, with their (out, in)."""
    found: dict[str, Shape] = {}
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            found[name] = (module.nf, module.nx)
        elif isinstance(module, torch.nn.Linear):
            found[name] = (module.out_features, module.in_features)
    return found
