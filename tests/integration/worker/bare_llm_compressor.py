"""llm-compressor by itself, as its documentation has it. Imports nothing of Quantry.

``python bare_llm_compressor.py <master> <folder> <windows.npy> <gptq|awq|rtn ...>`` writes a folder for each method: W4A16 in groups
of 128, lm_head left out, computed in float32.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from compressed_tensors.quantization import preset_name_to_scheme
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

BATCH_SIZE = 8


def main(master: str, folder: str, windows: str, *methods: str) -> None:
    torch.set_num_threads(2)
    for method in methods:
        torch.manual_seed(0)
        quantize(master, f"{folder}/{method}", windows, method)


def quantize(master: str, output: str, windows: str, method: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32)
    if method == "rtn":
        oneshot(model=model, recipe=recipe(method), pipeline="datafree")
    else:
        samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in torch.from_numpy(np.load(windows))]
        oneshot(model=model, recipe=recipe(method), dataset=DataLoader(samples, batch_size=BATCH_SIZE), pipeline="sequential")
    model.save_pretrained(output, save_compressed=True)


def recipe(method: str) -> list[Any]:
    quantized = {"config_groups": {"group_0": preset_name_to_scheme("W4A16", ["Linear"])}, "ignore": ["lm_head"]}
    if method == "gptq":
        return [GPTQModifier(**quantized, dampening_frac=0.01)]
    if method == "awq":
        # Without an accelerator it fails in pin_memory.
        IntermediatesCache.pin_memory = lambda *_: None
        return [AWQModifier(duo_scaling="both", n_grid=20), QuantizationModifier(**quantized)]
    return [QuantizationModifier(**quantized)]


if __name__ == "__main__":
    main(*sys.argv[1:])
