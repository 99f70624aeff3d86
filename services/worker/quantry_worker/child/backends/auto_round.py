"""AutoRound's library, which runs two methods: rounding learnt by signed gradient descent, and the export to GGUF."""

from __future__ import annotations

from quantry_core.methods import Method
from quantry_worker.child.backends.auto_round_gguf import export_gguf
from quantry_worker.child.backends.auto_round_tuning import tune
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport, Quantizer

_BY_METHOD: dict[Method, Quantizer] = {Method.AUTOROUND: tune, Method.GGUF: export_gguf}


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder.

    Raises InvalidInput for what the method cannot do to this model.
    """
    return _BY_METHOD[order.plan.method.method](order)
