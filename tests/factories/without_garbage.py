"""``python without_garbage.py <script> <arguments>``: runs a script that does not look for garbage among what it imports.

A worker's child does the same (quantry_worker.child.libraries). A script that loads models over and over would look through everything
that transformers has made each time, for a third of a second.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys

if __name__ == "__main__":
    # Threads that look while they wait take the cores from whatever else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    del sys.argv[0]
    script = sys.argv[0]
    sys.path[0] = script.rpartition("/")[0]
    gc.disable()
    # Under another name: what it imports is imported, and its main part is left for the second time.
    runpy.run_path(script, run_name="imported")
    gc.freeze()
    gc.enable()
    runpy.run_path(script, run_name="__main__")
