"""The releases that are rolled out: two sound quantizations of the example master, and one whose scales were spoiled."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

from bench.child import ML_PYTHON, run, text
from bench.embedded import ROOT
from quantry_core.jobs import CalibrationSpec, InputRole, QuantizeSpec
from quantry_core.methods import Format, Method, Scheme
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

EXAMPLE = ROOT / "examples" / "bard-6m"
MODEL, SPOILT_MODEL = "bard-6m", "bard-spoilt"
TEXTS = ("kjv.calibration", "shakespeare.calibration", "speeches.calibration")
W8A8, W4A16, SPOILT = "W8A8", "W4A16", "W4A16, scales spoilt"

SPOIL = """
import json, pathlib, shutil, sys
import torch
from safetensors.torch import load_file, save_file

source, output, spread = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3])
shutil.copytree(source, output)
tensors = load_file(source / "model.safetensors")
drawn = torch.Generator().manual_seed(0)
for name, weight in sorted(tensors.items()):
    if name.endswith("proj.weight"):
        # A factor of two to the power of a normal number for each row, [rows, 1]: the row's scale, once it is quantized, is off by it.
        factors = torch.exp2(spread * torch.randn(weight.shape[0], 1, generator=drawn))
        tensors[name] = (weight.float() * factors).to(weight.dtype)
(output / "model.safetensors").unlink()
save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
(output / "model.safetensors").chmod(0o644)
"""


def calibration() -> CalibrationSpec:
    """Returns the text that both quantizations are fitted to."""
    return CalibrationSpec(datasets=list(TEXTS), num_samples=66, length_tokens=256)


def stable_spec(base: str) -> QuantizeSpec:
    """Returns the job that makes the stable release's version."""
    return QuantizeSpec(base=base, method=Method.SMOOTHQUANT, scheme=Scheme.W8A8, calibration=calibration(), quality=None)


def candidate_spec(base: str) -> QuantizeSpec:
    """Returns the job that makes the candidate's version."""
    return QuantizeSpec(base=base, method=Method.GPTQ, scheme=Scheme.W4A16, calibration=calibration(), quality=None)


def spoilt_spec(base: str) -> QuantizeSpec:
    """Returns the job that makes a candidate of a spoilt master. Rounded to nearest, its integers are those of a sound one."""
    return QuantizeSpec(base=base, method=Method.RTN, scheme=Scheme.W4A16, quality=None)


def spoil(directory: Path, *, spread: float) -> Path:
    """Writes the example master with each row of each linear module off by a random factor, and returns its folder.

    A factor is 2 to the power of a normal number with standard deviation ``spread``. Quantized by rows or groups the integers stay
    what they were: only their scales are wrong.
    """
    command = [str(ML_PYTHON), "-c", SPOIL, str(EXAMPLE), str(directory), str(spread)]
    subprocess.run(command, check=True, capture_output=True)
    return directory


def quantized(directory: Path, master: Path, spec: QuantizeSpec) -> Path:
    """Returns the folder of a checkpoint that a recipe made of a master's folder, without a platform."""
    directory.mkdir(parents=True)
    base = ChildInput(
        role=InputRole.BASE,
        id="ver_1",
        ref="master@1",
        kind=VersionKind.MASTER,
        format=Format.SAFETENSORS,
        path=master,
    )
    texts = [text(InputRole.CALIBRATION, directory, name) for name in TEXTS] if spec.calibration else []
    _, output = run(directory / "attempt", spec, [base, *texts])
    return output


def prompts(num: int, *, num_words: int = 12) -> list[str]:
    """Returns different beginnings from the test texts, in turns: the same each time."""
    texts = [(ROOT / "examples" / "corpora" / f"{name}.test.txt").read_text().split() for name in ("kjv", "shakespeare", "speeches")]
    found = []
    for number in range(num):
        words = texts[number % len(texts)]
        start = (number // len(texts) * 7 * num_words) % (len(words) - num_words)
        found.append(" ".join(words[start : start + num_words]))
    return found


def words_of(text: str) -> list[str]:
    """Returns a text's words, in lower case and without what is between them."""
    return "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()


def pairs_of_words() -> frozenset[tuple[str, str]]:
    """Returns the words that follow one another in the texts of the example: what a sound model's answers are mostly made of."""
    pairs: set[tuple[str, str]] = set()
    for path in (ROOT / "examples" / "corpora").glob("*.txt"):
        words = words_of(path.read_text())
        pairs.update(pairwise(words))
    return frozenset(pairs)
