"""Runs the EETQ backend as on a GPU, with a stand-in for EETQ's kernels that rounds in plain torch and notes its calls.

``python eetq_with_fake_kernels.py <master> <output> <kept module>`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from transformers.integrations import hub_kernels
from transformers.quantizers import quantizer_eetq

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.jobs import QuantizeSpec
from quantry_worker.child.backends import eetq
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.plan import plan_quantization


class FakeKernels:
    """EETQ's functions as far as storing needs them: quant_weights of github.com/NetEase-FuXi/EETQ, without its interleaving."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.calls: list[list[Any]] = []

    def get(self, name: str, **_: Any) -> Any:
        self.names.append(name)
        return SimpleNamespace(quant_weights=self.quant_weights)

    def quant_weights(self, weight: torch.Tensor, dtype: torch.dtype, returns_unprocessed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes [inputs, outputs]; returns int8 of that shape and float16 scales, one for each output."""
        self.calls.append([list(weight.shape), str(weight.dtype), str(dtype), returns_unprocessed])
        scales = weight.float().abs().amax(0) / 127
        return (weight.float() / scales).round().to(dtype), scales.half()


def main(master_dir: str, output_dir: str, kept: str) -> dict[str, Any]:
    master = inspect_checkpoint(DirectoryCheckpoint(Path(master_dir)))
    spec = QuantizeSpec(base="bard@master", method="eetq", keep_16bit=[kept], quality=None)
    order = QuantizationOrder(
        plan=plan_quantization(spec, master),
        master=master,
        master_dir=Path(master_dir),
        output_dir=Path(output_dir),
        windows=None,
        seed=0,
        num_threads=2,
        on_progress=lambda *_: None,
    )
    fake = FakeKernels()
    with patch.object(torch.cuda, "is_available", lambda: True):
        without_library = refusal(order)
        with (
            patch.object(eetq, "eetq_device", lambda: "cpu"),
            patch.object(eetq, "toolchain", lambda *names: dict.fromkeys(names, "0")),
            patch.object(quantizer_eetq, "is_kernels_available", lambda: True),
            patch.object(hub_kernels, "get_kernel", fake.get),
        ):
            eetq.quantize(order)
    config = json.loads((Path(output_dir) / "config.json").read_text())["quantization_config"]
    return {"without_library": without_library, "kernels": fake.names, "calls": fake.calls, "config": config}


def refusal(order: QuantizationOrder) -> str:
    try:
        eetq.quantize(order)
    except InvalidInput as error:
        return error.detail
    raise SystemExit("the missing library was not noticed")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
