"""AutoRound: Cheng et al. 2023, arXiv:2309.05516. Writes compressed-tensors, format pack-quantized.

The model computes in float32, as with GPTQ. Symmetric scales may be negative: AutoRound puts the one level that has no
counterpart, -2^(bits-1), on the side of the largest weight of a group, and the scale takes that weight's sign.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from auto_round import AutoRound, SignRoundConfig
from auto_round.export.export_to_llmcompressor.export import save_quantized_as_llmcompressor
from transformers import AutoTokenizer, set_seed

from quantry_core.errors import InvalidInput
from quantry_core.methods import Weights
from quantry_worker.child.backends.auto_round_progress import layers_told
from quantry_worker.child.backends.master_model import check_linears, load_master, restore_dtypes, weights_dtype
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.numerics.text import Tokens
from quantry_worker.child.plan import QuantizationPlan, names_in_words
from quantry_worker.child.toolchain import toolchain

BATCH_SAMPLES = 8
EXTENDED_BITS = 2
SHARE_LOADED, SHARE_QUANTIZED = 0.05, 0.95
CHANNEL_GROUP_SIZE = -1
"""How auto-round says one scale for each output channel."""
KEPT = {"bits": 16, "data_type": "fp", "act_bits": 16, "act_data_type": "fp"}


@dataclass(frozen=True)
class Preset:
    """One of auto-round's own recipes, as its command line calls them."""

    num_steps: int
    """Steps of training for each layer."""
    learning_rate: float | None
    """None: auto-round's rule, 1/steps, or 2/steps at 2 and 3 bits from 1000 steps on."""
    extends_low_bits: bool
    """Starts 2-bit layers from scales that were searched for (auto-round's algorithm extension): slower, and better there."""


PRESETS: dict[str, Preset] = {
    "light": Preset(50, 5e-3, False),
    "default": Preset(200, None, False),
    "best": Preset(1000, None, True),
}


def tune(order: QuantizationOrder) -> QuantizationReport:
    """Writes the tuned weights and config.json into the order's output folder.

    Raises InvalidInput for modules that are no plain Linear, or that auto-round leaves as they are.
    """
    if order.windows is None:
        raise ValueError("AutoRound is fitted to text; the order has none")
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    plan = order.plan
    preset = PRESETS[str(plan.choice.options["preset"])]
    model = load_master(order.master_dir, torch.float32)
    check_linears(model, plan)
    order.on_progress(SHARE_LOADED, "loaded")
    is_extended = preset.extends_low_bits and all(target.weights.bits <= EXTENDED_BITS for target in plan.targets.values())
    rounding = AutoRound(
        model,
        AutoTokenizer.from_pretrained(order.master_dir, local_files_only=True, trust_remote_code=False),
        scheme=_scheme(plan.choice.weights),
        alg_configs=SignRoundConfig(iters=preset.num_steps, lr=preset.learning_rate, enable_alg_ext=is_extended),
        layer_config=layer_config(plan),
        dataset=calibration_batches(order.windows),
        nsamples=len(order.windows),
        seqlen=order.windows.shape[1],
        batch_size=BATCH_SAMPLES,
        seed=order.seed,
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        amp=False,
        scale_dtype=str(weights_dtype(order.master)).removeprefix("torch."),
        # Compiling needs a C++ compiler on the host and makes results depend on it.
        enable_torch_compile=False,
        # Streams blocks to files beside the process; the whole model is in memory here anyway.
        low_cpu_mem_usage=False,
    )
    with layers_told(order.on_progress, SHARE_LOADED, SHARE_QUANTIZED):
        tuned, _ = rounding.quantize()
    order.on_progress(SHARE_QUANTIZED, "saving")
    check_tuned(tuned, plan)
    _save(tuned, order)
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "auto-round", "compressed-tensors"),
        settings=asdict(preset)
        | {"batch_samples": BATCH_SAMPLES, "extended": is_extended, "compute_dtype": "float32", "num_threads": order.num_threads},
    )


def layer_config(plan: QuantizationPlan) -> dict[str, dict[str, Any]]:
    """Returns what auto-round must be told of single modules: those kept, those overridden, and an output layer to quantize."""
    kept = {name: dict(KEPT) for name in plan.kept}
    own = {
        name: _scheme(target.weights)
        for name, target in plan.targets.items()
        # auto-round leaves what lies outside of the layers alone unless it is named.
        if target.weights != plan.choice.weights or not _is_in_layer(name)
    }
    return kept | own


def calibration_batches(windows: Tokens) -> list[torch.Tensor]:
    """Returns token ids in batches, each of shape [up to BATCH_SAMPLES, length_tokens]."""
    return list(torch.from_numpy(windows).split(BATCH_SAMPLES))


def check_tuned(model: Any, plan: QuantizationPlan) -> None:
    """Raises InvalidInput unless exactly the targets have scales, each with the bits and the groups that the plan gives it."""
    tuned = {name: module for name, module in model.named_modules() if isinstance(getattr(module, "scale", None), torch.Tensor)}
    wrong = [name for name, module in tuned.items() if name not in plan.targets or not _is_as_planned(module, plan.targets[name].weights)]
    if wrong:
        raise RuntimeError(f"auto-round gave other bits or groups than it was told to {names_in_words(wrong)}")
    untouched = set(plan.targets) - set(tuned)
    if untouched:
        raise InvalidInput(f"auto-round cannot quantize {names_in_words(untouched)}: ignore these modules, or take another method")


def use_signed_zero_points(model: Any, plan: QuantizationPlan) -> None:
    """Moves the zero points of asymmetric modules from auto-round's range to that of compressed-tensors.

    auto-round counts levels from 0 to 2^bits - 1 and keeps zero points as floats; compressed-tensors counts from
    -2^(bits-1) and packs int8. auto-round 0.15.1 exports its own numbers as they are, which fails for want of int8.
    """
    for name, target in plan.targets.items():
        if not target.weights.symmetric:
            module = model.get_submodule(name)
            # zp has the shape of scale, [rows, groups].
            module.zp = (module.zp.reshape(module.scale.shape) - 2 ** (module.bits - 1)).to(torch.int8)


def _scheme(weights: Weights) -> dict[str, Any]:
    size = CHANNEL_GROUP_SIZE if weights.group_size is None else weights.group_size
    return {"bits": int(weights.bits), "group_size": size, "sym": weights.symmetric, "data_type": "int", "act_bits": 16}


def _is_in_layer(module: str) -> bool:
    return any(part.isdigit() for part in module.split("."))


def _is_as_planned(module: Any, weights: Weights) -> bool:
    planned = _scheme(weights)
    return all(getattr(module, name) == planned[name] for name in ("bits", "group_size", "sym"))


def _save(model: Any, order: QuantizationOrder) -> None:
    use_signed_zero_points(model, order.plan)
    # Without a folder it packs and returns; with one it would write float32 and files of its own beside.
    packed = save_quantized_as_llmcompressor(output_dir=None, model=model)
    settings = packed.config.quantization_config
    restore_dtypes(packed, order.master)
    packed.save_pretrained(order.output_dir)
    write_config(order.output_dir, order.master, settings)
    (order.output_dir / "generation_config.json").unlink(missing_ok=True)
