"""bitsandbytes as transformers stores it: NF4 (Dettmers et al. 2023, arXiv:2305.14314) and INT8 (2022, arXiv:2208.07339).

Bases for QLoRA, and checkpoints for users of transformers. vLLM on CPU has no kernel for either.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import BitsAndBytesConfig, set_seed

from quantry_core.errors import InvalidInput
from quantry_core.methods import Scheme
from quantry_worker.child.backends.master_model import load_master, modules_left_alone, restore_tensors, weights_dtype
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.plan import QuantizationPlan, names_in_words
from quantry_worker.child.toolchain import toolchain

SHARE_QUANTIZED = 0.8


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder.

    Raises InvalidInput naming modules that bitsandbytes leaves as they are, or quantizes although they are to be kept.
    """
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    settings = bits_and_bytes_config(order, weights_dtype(order.master))
    # Loading quantizes, one tensor after the other: the 16-bit model is never whole in memory.
    model = load_master(
        order.master_dir,
        weights_dtype(order.master),
        quantization_config=settings,
        device_map={"": "cuda:0" if torch.cuda.is_available() else "cpu"},
    )
    check_quantized(model, order.plan)
    order.on_progress(SHARE_QUANTIZED, "saving")
    restore_tensors(model, order)
    model.save_pretrained(order.output_dir)
    (order.output_dir / "generation_config.json").unlink(missing_ok=True)
    write_config(order.output_dir, order.master, model.config.quantization_config.to_dict())
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "bitsandbytes"),
        settings={"compute_dtype": str(weights_dtype(order.master)).removeprefix("torch.")},
        notes=["vLLM on CPU has no kernel for bitsandbytes: this version is for transformers and as a base to train on"],
    )


def bits_and_bytes_config(order: QuantizationOrder, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Returns what transformers needs to know; the output layer stays at 16 bit where it is tied or kept."""
    plan = order.plan
    skipped = modules_left_alone(plan, order.master.config)
    if plan.scheme is Scheme.INT8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=plan.choice.options["double_quantization"],
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=skipped,
    )


def check_quantized(model: Any, plan: QuantizationPlan) -> None:
    """Raises InvalidInput unless exactly the plan's targets have become modules of bitsandbytes."""
    prefix = f"{model.base_model_prefix}."
    done = {name for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)}
    # Some checkpoints, GPT-2's among them, name modules without the prefix that they have in the model.
    done = {name if name in plan.targets else name.removeprefix(prefix) for name in done}
    untouched = set(plan.targets) - done
    if untouched:
        raise InvalidInput(f"bitsandbytes quantizes no modules like {names_in_words(untouched)} of a {model.config.model_type} model")
    surplus = done - set(plan.targets)
    if surplus:
        raise InvalidInput(f"bitsandbytes would quantize {names_in_words(surplus)} although they are to be kept; keep whole layers instead")
