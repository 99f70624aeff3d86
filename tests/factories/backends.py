"""Runs a quantization backend in the ml environment, on the example model or a variation of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from factories.child_runs import ML_SCRIPT
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.estimates import facts_of, quantized_facts
from quantry_core.jobs import QuantizeSpec

ROOT = Path(__file__).resolve().parents[2]
MASTER = ROOT / "examples" / "bard-6m"
CORPORA = ROOT / "examples" / "corpora"
SCRIPTS = ROOT / "tests" / "integration" / "worker"
RUN_BACKEND, WINDOWS_OF = SCRIPTS / "run_backend.py", SCRIPTS / "windows_of.py"
CALIBRATION = ("kjv", "shakespeare", "speeches")


@dataclass(frozen=True)
class BackendRun:
    """What a backend wrote and said."""

    master: Path
    spec: dict[str, Any]
    output_dir: Path
    report: dict[str, Any]
    progress: list[list[Any]]
    refused: str | None

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.output_dir / "config.json").read_text())
        return config

    @property
    def estimated_bytes(self) -> int:
        """What the estimate, which sees the master's headers alone, says of the weights' files."""
        return estimated_bytes(self.master, self.spec)

    @property
    def weights_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.output_dir.iterdir() if path.suffix in {".safetensors", ".gguf"})


def estimated_bytes(master: Path, spec: dict[str, Any]) -> int:
    """Returns the bytes of the weights' files that a job with this spec is estimated to write."""
    facts = facts_of(inspect_checkpoint(DirectoryCheckpoint(master)))
    return quantized_facts(facts, QuantizeSpec.model_validate(spec)).weights_bytes


def run_python(script: Path, *arguments: object) -> Any:
    """Returns the JSON value in the last line that a script of the ml environment prints."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    command = [*ML_SCRIPT, str(script), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])


def run_backend(directory: Path, spec: dict[str, Any], *, master: Path = MASTER, windows: NDArray[np.int64] | None = None) -> BackendRun:
    """Quantizes below ``directory``; ``windows`` has the shape [num_samples, length_tokens]."""
    output_dir = directory / "output"
    output_dir.mkdir(parents=True)
    whole = {"base": "bard@master", "quality": None, **spec}
    arguments: list[object] = [directory / "spec.json", master, output_dir]
    if windows is not None:
        whole["calibration"] = {"datasets": ["text@1"]}
        np.save(directory / "windows.npy", windows)
        arguments.append(directory / "windows.npy")
    (directory / "spec.json").write_text(json.dumps(whole))
    said = run_python(RUN_BACKEND, *arguments)
    return BackendRun(master, whole, output_dir, said.get("report", {}), said.get("progress", []), said.get("refused"))


def example_windows(file: Path, num_samples: int, length_tokens: int) -> NDArray[np.int64]:
    """Returns the first windows of each calibration text, shape [num_samples, length_tokens], and leaves them in an npy file."""
    texts = [CORPORA / f"{name}.calibration.txt" for name in CALIBRATION]
    run_python(WINDOWS_OF, file, MASTER, num_samples, length_tokens, *texts)
    windows: NDArray[np.int64] = np.load(file)
    return windows


def shortened_master(directory: Path, num_layers: int, *, norms: str = "float16") -> Path:
    """Writes the example model with its first layers only and its norms in another dtype; returns ``directory``."""
    directory.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(MASTER / name, directory / name)
    config = json.loads((MASTER / "config.json").read_text()) | {"num_hidden_layers": num_layers}
    (directory / "config.json").write_text(json.dumps(config))
    layers = tuple(f"model.layers.{layer}." for layer in range(num_layers))
    tensors = {
        name: tensor.astype(norms) if tensor.ndim == 1 else tensor
        for name, tensor in load_file(MASTER / "model.safetensors").items()
        if not name.startswith("model.layers.") or name.startswith(layers)
    }
    save_file(tensors, directory / "model.safetensors")
    return directory
