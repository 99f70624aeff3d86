"""Methods that are fitted to text, by llm-compressor's sequential pipeline: one layer after another sees the samples.

The model computes in float32 while it is calibrated: on CPUs that is several times faster than half precision, and the
Hessians are better for it. Afterwards every tensor goes back to the dtype it had in the master. With an accelerator only the
layer at work lies there; the rest stays in main memory.
"""

from __future__ import annotations

import torch
from llmcompressor import oneshot
from llmcompressor.modeling.moe.linearize import linearize_moe
from torch.utils.data import DataLoader
from transformers import set_seed

from quantry_worker.child.backends.llm_compressor.pinning import pinning_only_for_accelerators
from quantry_worker.child.backends.llm_compressor.recipe import modifiers_of
from quantry_worker.child.backends.llm_compressor.saving import save_model
from quantry_worker.child.backends.llm_compressor.watch import SHARE_LOADED, SHARE_QUANTIZED, LayerWatch, layers_of
from quantry_worker.child.backends.master_model import check_linears, load_master
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.numerics.text import Tokens
from quantry_worker.child.plan import names_in_words
from quantry_worker.child.toolchain import toolchain

BATCH_TOKENS = 2048


def quantize_calibrated(order: QuantizationOrder, windows: Tokens) -> QuantizationReport:
    """Writes the quantized version; ``windows`` are the samples, shape [num_samples, length_tokens].

    Raises InvalidInput if the model, once loaded, has other Linear modules than its headers let expect.
    """
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    # Experts that transformers holds as one tensor become a Linear each, as in the checkpoint.
    model = linearize_moe(load_master(order.master_dir, torch.float32))
    ignore = check_linears(model, order.plan)
    order.on_progress(SHARE_LOADED, "loaded")
    modifiers = modifiers_of(order.plan, ignore)
    watch = LayerWatch.calling(modifiers, layers_of(model, order.plan), order.on_progress)
    with pinning_only_for_accelerators():
        oneshot(model=model, recipe=[*modifiers, watch], dataset=calibration_batches(windows), pipeline="sequential")
    order.on_progress(SHARE_QUANTIZED, "saving")
    save_model(model, order)
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "llmcompressor", "compressed-tensors"),
        settings={"compute_dtype": "float32", "num_threads": order.num_threads},
        metrics={"num_round_to_nearest": len(watch.round_to_nearest)},
        notes=_notes(watch.round_to_nearest),
    )


def calibration_batches(windows: Tokens) -> DataLoader[dict[str, torch.Tensor]]:
    """Returns the samples, shape [num_samples, length_tokens], in batches of some 2000 tokens, in their order."""
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in torch.from_numpy(windows)]
    return DataLoader(samples, batch_size=max(1, BATCH_TOKENS // windows.shape[1]))


def _notes(round_to_nearest: list[str]) -> list[str]:
    if not round_to_nearest:
        return []
    return [
        f"{len(round_to_nearest)} modules were rounded to nearest because their Hessian could not be inverted: "
        f"{names_in_words(round_to_nearest)}; more damping or more calibration text helps"
    ]
