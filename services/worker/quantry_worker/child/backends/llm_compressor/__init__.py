"""llm-compressor: rtn, gptq, awq, smoothquant, fp8, nvfp4, mxfp4 and KV cache scales, written as compressed-tensors.

What is fitted to text goes through the model, one layer after another; what looks at weights alone goes from file to file
without one.
"""

from __future__ import annotations

from quantry_worker.child.backends.llm_compressor.calibrated import quantize_calibrated
from quantry_worker.child.backends.llm_compressor.streamed import quantize_streamed
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder.

    Raises InvalidInput for modules that the library cannot quantize, and for overrides that need text where there is none.
    """
    if order.windows is None:
        return quantize_streamed(order)
    return quantize_calibrated(order, order.windows)
