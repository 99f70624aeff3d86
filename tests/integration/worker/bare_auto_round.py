"""AutoRound as its documentation has it, to compare with. Imports nothing of Quantry.

``python bare_auto_round.py <master> <output.npz> <windows.npy> <bits> <group size> <symmetric 0|1>``. Writes the tuned
weights themselves, by module, and prints their number.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from auto_round import AutoRound
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(master: str, output: str, windows_file: str, *settings: str) -> int:
    bits, group_size, symmetric = map(int, settings)
    torch.set_num_threads(2)
    windows = torch.from_numpy(np.load(windows_file))
    rounding = AutoRound(
        AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32),
        AutoTokenizer.from_pretrained(master),
        scheme={"bits": bits, "group_size": group_size, "sym": symmetric == 1, "data_type": "int", "act_bits": 16},
        dataset=list(windows.split(8)),
        nsamples=len(windows),
        seqlen=windows.shape[1],
        iters=50,
        lr=5e-3,
        seed=0,
        amp=False,
        scale_dtype="float16",
        device_map="cpu",
        enable_torch_compile=False,
    )
    model, _ = rounding.quantize()
    tuned = {
        name: module.weight.detach().float().numpy()
        for name, module in model.named_modules()
        if torch.is_tensor(getattr(module, "scale", None))
    }
    np.savez(output, **tuned)
    return len(tuned)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
