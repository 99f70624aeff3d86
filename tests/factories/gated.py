"""Quantized versions of the example model, made and gated for real in the ml environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factories.child_runs import ENGINE_SCRIPT, MASTER, ROOT
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import QuantizeSpec
from quantry_core.versions import EvidenceDraft

SCRIPT = Path(__file__).with_name("gate_in_ml.py")


@dataclass(frozen=True)
class Gated:
    """What the recipe or the gate said of one checkpoint."""

    output_dir: Path
    state: str | None
    evidence: dict[str, EvidenceDraft]

    @property
    def problems(self) -> dict[str, list[str]]:
        """The problems of every check that found any."""
        return {name: one.metrics["problems"] for name, one in self.evidence.items() if one.metrics["problems"]}


def gated(
    folder: Path,
    specs: dict[str, QuantizeSpec],
    *,
    make: bool,
    environment: str = "ml",
    engine_pythons: Mapping[str, Path] | None = None,
    master: Path = MASTER,
    script: Path = SCRIPT,
) -> dict[str, Gated]:
    """Makes (or only gates) ``folder/<name>`` for every spec in one process of the environment; returns what was said by name.

    Calibration and quality are on the beginnings of two example texts. ``engine_pythons``: by name, where an engine is asked too.
    ``script`` stands in for the one that runs the recipe or the gate as they are.
    """
    for role in ("calibration", "test"):
        (folder / role).mkdir(parents=True, exist_ok=True)
        text = (ROOT / "examples" / "corpora" / f"kjv.{role}.txt").read_bytes()[:60_000]
        (folder / role / DATASET_FILES[DatasetKind.TEXT]).write_bytes(text)
    engines = {name: str(python) for name, python in (engine_pythons or {}).items()}
    requests: list[dict[str, Any]] = [
        {
            "spec": spec.model_dump(mode="json"),
            "output_dir": str(folder / name),
            "master_dir": str(master),
            "calibration_dir": str(folder / "calibration"),
            "corpus_dir": str(folder / "test"),
            "engine_python": engines.get(name),
            "engine_script": str(ENGINE_SCRIPT) if name in engines else None,
            "make": make,
        }
        for name, spec in specs.items()
    ]
    (folder / "requests.json").write_text(json.dumps(requests))
    python = ROOT / ".venvs" / environment / "bin" / "python"
    ended = subprocess.run(
        [python, script, folder / "requests.json", folder / "answers.json"],
        env={"PATH": os.defpath, "HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # GPTQModel writes its logs where it is started.
        cwd=folder,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    answers = json.loads((folder / "answers.json").read_text())
    return {name: _gated(folder / name, answer) for name, answer in zip(specs, answers, strict=True)}


def _gated(output_dir: Path, answer: dict[str, Any]) -> Gated:
    assert "refused" not in answer, answer["refused"]
    evidence = [EvidenceDraft.model_validate(one) for one in answer["evidence"]]
    return Gated(output_dir, answer.get("state"), {one.name: one for one in evidence})
