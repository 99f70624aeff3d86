"""A stand-in for the ml environment's interpreter: an evaluate job whose child does nothing but report a result.

With it a job costs what the platform costs, and one bare Python start.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHILD = """
import json, os, sys
event = {
    "event": "result",
    "evidence": [{"kind": "evaluation", "name": "nothing", "verdict": "inconclusive", "metrics": {"num_tokens": 0}}],
}
with os.fdopen(int(os.environ["QUANTRY_EVENTS_FD"]), "w") as events:
    events.write(json.dumps(event) + "\\n")
"""


def write_stub_python(directory: Path) -> Path:
    """Writes the child and the interpreter that runs it, whatever it is asked to run; returns the interpreter's path."""
    child = directory / "stub_child.py"
    child.write_text(CHILD)
    python = directory / "stub_python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{child}"\n')
    python.chmod(0o755)
    return python
