"""The gate, with our gptq reader and the checkpoint's writer wrong in the same way: zero points stored as they are, not less one.

``python gate_with_other_zero_points.py <requests.json> <answers.json>``, as ``tests/factories/gate_in_ml.py``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from quantry_worker.child.formats import gptq

if __name__ == "__main__":
    gptq.ZERO_OFFSETS["gptq"] = 0
    script = Path(__file__).resolve().parents[2] / "factories" / "gate_in_ml.py"
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")
