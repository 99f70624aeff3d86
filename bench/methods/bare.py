"""A row beside a bare script of the same library, with the same data: equal bits, or how far the perplexities are apart."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.embedded import ROOT, Measured
from bench.methods.cases import CALIBRATION, CORPORA, LENGTH_TOKENS, NUM_SAMPLES, Case
from quantry_core.methods import SCHEMES, Method
from quantry_core.versions import VersionDetail

SCRIPTS = ROOT / "tests" / "integration" / "worker"
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
MODEL = "bard-6m"


@dataclass(frozen=True)
class Parity:
    """How the platform's checkpoint compares with the bare one."""

    is_identical: bool
    """Every tensor of the bare checkpoint, or every weight that the bare script tuned, is there with the same value."""
    num_tensors: int
    perplexity_ratio: dict[str, float]
    """Platform over bare, by corpus, both by one script that knows nothing of the platform."""

    @property
    def words(self) -> str:
        if self.is_identical:
            return f"bit-identical ({self.num_tensors} tensors)"
        furthest = max(self.perplexity_ratio.values(), key=lambda ratio: abs(ratio - 1))
        return f"perplexity {furthest - 1:+.3%}"


def compare(measured: Measured, case: Case, version: VersionDetail) -> Parity:
    """Returns the comparison; runs the bare script for it."""
    folder = measured.scratch / "bare" / case.name.replace(" ", "-")
    folder.mkdir(parents=True)
    windows = folder / "windows.npy"
    texts = [str(ROOT / "examples" / "corpora" / f"{name}.txt") for name in CALIBRATION]
    master = measured.scratch / MODEL
    _ml(Path(__file__).parent / "windows.py", str(master), str(windows), str(NUM_SAMPLES), str(LENGTH_TOKENS), *texts)
    bare = _bare(case, master, folder, windows)
    measured.client.versions.export(version.id, folder / "platform")
    tests = [str(ROOT / "examples" / "corpora" / f"{name}.txt") for name in CORPORA]
    told = _ml(Path(__file__).parent / "parity.py", str(master), str(folder / "platform"), str(bare), *tests)
    found = json.loads(told.splitlines()[-1])
    return Parity(**found)


def _bare(case: Case, master: Path, folder: Path, windows: Path) -> Path:
    """Runs the bare script and returns what it wrote: a checkpoint of llm-compressor, or the weights that AutoRound tuned."""
    if case.method is Method.AUTOROUND:
        output = folder / "tuned.npz"
        settings = (SCHEMES[case.scheme].weight_bits, case.group_size, int(case.options.get("symmetric", True)))
        _ml(SCRIPTS / "bare_auto_round.py", str(master), str(output), str(windows), *(f"{setting:g}" for setting in settings))
        return output
    _ml(SCRIPTS / "bare_llm_compressor.py", str(master), str(folder), str(windows), str(case.method))
    return folder / str(case.method)


def _ml(script: Path, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT / "tests")}
    finished = subprocess.run([str(ML_PYTHON), str(script), *arguments], env=environment, check=False, capture_output=True, text=True)
    if finished.returncode != 0:
        raise RuntimeError(f"{script.name} ended with status {finished.returncode}: {finished.stderr[-2000:]}")
    return finished.stdout
