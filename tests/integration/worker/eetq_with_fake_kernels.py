"""Runs EETQ as on a GPU, with a stand-in for its kernels that rounds and multiplies in plain torch and notes its calls.

``python eetq_with_fake_kernels.py <requests.json> <answers.json>``, as ``tests/factories/gate_in_ml.py``: what it makes goes
through the whole gate. ``calls.json`` beside the answers gets the calls, and what is said where the library or its kernel is missing.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from transformers.integrations import hub_kernels
from transformers.quantizers import quantizer_eetq

from quantry_core.errors import InvalidInput
from quantry_worker.child import eetq_library
from quantry_worker.child.backends import eetq

GATE = Path(__file__).resolve().parents[2] / "factories" / "gate_in_ml.py"


class FakeKernels:
    """EETQ's functions as far as storing and reading need them, of github.com/NetEase-FuXi/EETQ, without its interleaving."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rounded: list[list[Any]] = []

    def get(self, name: str, **_: Any) -> Any:
        self.names.append(name)
        return SimpleNamespace(quant_weights=self.quant_weights, w8_a16_gemm=self.w8_a16_gemm)

    def quant_weights(self, weight: torch.Tensor, dtype: torch.dtype, returns_unprocessed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes [inputs, outputs]; returns int8 of that shape and float16 scales, one for each output."""
        self.rounded.append([list(weight.shape), str(weight.dtype), str(dtype), returns_unprocessed])
        scales = weight.float().abs().amax(0) / 127
        return (weight.float() / scales).round().to(dtype), scales.half()

    def w8_a16_gemm(self, inputs: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Takes [rows, inputs] in float16, as the real one; returns [rows, outputs]."""
        assert (inputs.dtype, weight.dtype, scales.dtype) == (torch.float16, torch.int8, torch.float16)
        return (inputs.float() @ (weight.float() * scales.float())).half()


def refusal() -> str:
    """Returns what is said where something is missing."""
    try:
        eetq_library.eetq_device()
    except InvalidInput as error:
        return error.detail
    raise SystemExit("what is missing was not noticed")


def absent(name: str, **_: Any) -> Any:
    raise FileNotFoundError(f"Cannot find a local snapshot for {name}")


def main() -> None:
    fake = FakeKernels()
    with patch.object(torch.cuda, "is_available", lambda: True):
        without_library = refusal()
        with patch.object(eetq_library, "is_kernels_available", lambda: True):
            with patch.object(hub_kernels, "get_kernel", absent):
                without_kernel = refusal()
            with (
                patch.object(eetq_library, "DEVICE", "cpu"),
                patch.object(eetq, "toolchain", lambda *names: dict.fromkeys(names, "0")),
                patch.object(quantizer_eetq, "is_kernels_available", lambda: True),
                patch.object(hub_kernels, "get_kernel", fake.get),
            ):
                sys.argv[0] = str(GATE)
                runpy.run_path(str(GATE), run_name="__main__")
    said = {"without_library": without_library, "without_kernel": without_kernel, "kernels": fake.names, "rounded": fake.rounded}
    Path(sys.argv[2]).with_name("calls.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
