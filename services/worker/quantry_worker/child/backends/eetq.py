"""EETQ: int8 weights, one scale for each output channel, for NVIDIA GPUs. https://github.com/NetEase-FuXi/EETQ

transformers runs it through the ``kernels`` library, which holds EETQ's CUDA code. Its modules are saved as they are; everything
else is the master's again, which was loaded in EETQ's float16.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import EetqConfig, set_seed

from quantry_core.errors import InvalidInput
from quantry_worker.child.backends.master_model import load_master, modules_left_alone, restore_tensors
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.eetq_library import INSTEAD, LIBRARY, eetq_device
from quantry_worker.child.plan import QuantizationPlan, names_in_words
from quantry_worker.child.toolchain import toolchain

SHARE_QUANTIZED = 0.8


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder.

    Raises InvalidInput, before anything is loaded, where there is no CUDA device, or the library or its kernel is missing.
    """
    device = eetq_device()
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    # EETQ's kernels compute in float16, and its scales are float16.
    model = load_master(
        order.master_dir,
        torch.float16,
        quantization_config=EetqConfig("int8", modules_to_not_convert=modules_left_alone(order.plan, order.master.config)),
        device_map={"": device},
    )
    check_quantized(model, order.plan)
    order.on_progress(SHARE_QUANTIZED, "saving")
    restore_tensors(model, order)
    model.save_pretrained(order.output_dir)
    (order.output_dir / "generation_config.json").unlink(missing_ok=True)
    write_config(order.output_dir, order.master, model.config.quantization_config.to_dict())
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", LIBRARY),
        settings={"compute_dtype": "float16"},
        notes=["vLLM has no kernel for EETQ: this version is for transformers on NVIDIA GPUs"],
    )


def check_quantized(model: Any, plan: QuantizationPlan) -> None:
    """Raises InvalidInput unless exactly the plan's targets hold int8 weights."""
    done = {
        name.removesuffix(".weight") for name, tensor in model.named_parameters() if tensor.dtype is torch.int8 and name.endswith(".weight")
    }
    wrong = done ^ set(plan.targets)
    if wrong:
        raise InvalidInput(f"EETQ and the plan disagree about {names_in_words(wrong)} of a {model.config.model_type} model; {INSTEAD}")
