"""Loads the model that is trained: 16-bit, packed by bitsandbytes, or dequantized from what is stored.

On the CPU everything is computed in float32. On a GPU what is frozen rests in bfloat16, where the GPU knows it, and what is
trained stays float32, with autocast between them (Micikevicius et al. 2018, arXiv:1710.03740). Packed weights stay packed:
QLoRA, Dettmers et al. 2023, arXiv:2305.14314.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from quantry_core.errors import InvalidInput
from quantry_core.families import family_of
from quantry_core.jobs.specs.finetune import FinetuneSpec
from quantry_core.methods import Format
from quantry_core.training import BasePrecision
from quantry_worker.child.numerics.model import OFFLINE, format_of, load_model, read_config
from quantry_worker.protocol import ChildInput

CPU = torch.device("cpu")
DEQUANTIZED = frozenset({Format.COMPRESSED_TENSORS, Format.GPTQ})
"""Formats whose weights cannot be trained beside while they are packed: they are put back to floats as they are loaded."""


@dataclass(frozen=True)
class Base:
    """A model as it is trained, all of it frozen yet where an adapter will be."""

    model: Any
    device: torch.device
    compute_dtype: torch.dtype
    libraries: tuple[str, ...]
    """Distributions that read its weights, beside torch and transformers."""
    settings: dict[str, Any]
    """What the recipe says of it."""


def load_base(given: ChildInput, spec: FinetuneSpec) -> Base:
    """Returns the base of a training; raises InvalidInput for a format that nothing is trained on."""
    device = training_device()
    frozen_dtype = torch.float32 if device.type == "cpu" or not torch.cuda.is_bf16_supported() else torch.bfloat16
    compute_dtype = frozen_dtype
    form = format_of(given.path)
    libraries: tuple[str, ...] = ()
    if spec.adapter is None:
        # What is trained is float32; only its products are rounded.
        frozen_dtype = torch.float32
    if form is Format.SAFETENSORS and spec.base_precision is not None:
        model, libraries = _rounded(given.path, spec.base_precision, frozen_dtype, device), ("bitsandbytes",)
    elif form is Format.SAFETENSORS:
        model = _from_pretrained(given.path, frozen_dtype, device_map={"": device})
    elif form is Format.BITSANDBYTES:
        model, libraries = _packed(given.path, frozen_dtype, device), ("bitsandbytes",)
    elif form in DEQUANTIZED:
        model = load_model(given.path).to(device=device, dtype=frozen_dtype)
        libraries = ("compressed-tensors",) if form is Format.COMPRESSED_TENSORS else ()
    else:
        raise InvalidInput(f"nothing is trained on checkpoints in format {form}; take the 16-bit version that it was made from")
    model.requires_grad_(spec.adapter is None)
    return Base(
        model=model.train(),
        device=device,
        compute_dtype=compute_dtype,
        libraries=libraries,
        settings={
            "device": device.type,
            "compute_dtype": str(compute_dtype).removeprefix("torch."),
            "base_format": form.value,
            "base_dequantized": form in DEQUANTIZED,
        },
    )


def training_device() -> torch.device:
    """Returns this process's GPU, the CPU without one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU


def is_packed(model: Any) -> bool:
    """Tells whether bitsandbytes keeps weights of a model in fewer than 16 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def _from_pretrained(directory: Path, dtype: torch.dtype, **settings: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, use_safetensors=True, **OFFLINE, **settings)


def _rounded(directory: Path, precision: BasePrecision, dtype: torch.dtype, device: torch.device) -> Any:
    """Returns a 16-bit checkpoint with its linear modules rounded as they are loaded; the output layer stays as it is."""
    kept = sorted(family_of(read_config(directory)).output_layers)
    if precision is BasePrecision.NF4:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=kept,
        )
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return _quiet(_from_pretrained(directory, dtype, quantization_config=settings, device_map={"": device}))


def _packed(directory: Path, dtype: torch.dtype, device: torch.device) -> Any:
    model = _quiet(_from_pretrained(directory, dtype, device_map={"": device}))
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype
    return model


def _quiet(model: Any) -> Any:
    """Returns a packed model as it is trained beside: what is not packed in float32, as norms want it, and nothing said per product."""
    # It says for every product that float32 activations become float16 before they are rounded to int8.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # Measured once, it would lay its weights out anew for a kernel of the CPU that no gradient goes through.
            module.support_avx512bf16_for_cpu = False
    return model
