"""What a stack needs from the checkout it runs in: the Python environments, the engine's script, the examples."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantry_local.errors import StackError

CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Installation:
    """Paths of one checkout. ``light_python`` runs the services, the others run what the worker and deploy start."""

    root: Path
    light_python: Path
    ml_python: Path
    engine_python: Path
    engine_script: Path
    gptqmodel_python: Path | None = None
    llama_cpp_python: Path | None = None
    """Of environments that need not be built; None where one is not."""

    @property
    def examples(self) -> Path:
        return self.root / "examples"

    def check(self) -> None:
        """Raises StackError naming the first thing that is missing and how to get it."""
        for name, python in (("ml", self.ml_python), ("engine-cpu", self.engine_python)):
            if not os.access(python, os.X_OK):
                raise StackError(
                    f"the Python environment {name} is not built: there is no {python}; "
                    f"run `python3 requirements/environments.py build {name}` in the checkout"
                )
        if not self.engine_script.is_file():
            raise StackError(f"there is no {self.engine_script}; the embedded stack runs from a complete checkout of Quantry")


def find_installation(environ: Mapping[str, str] = os.environ) -> Installation:
    """Returns this checkout's paths; the variables QUANTRY_ML_PYTHON and so on override them."""
    environments = CHECKOUT / ".venvs"
    gptqmodel_python = Path(environ.get("QUANTRY_GPTQMODEL_PYTHON") or environments / "gptqmodel" / "bin" / "python")
    llama_cpp_python = Path(environ.get("QUANTRY_LLAMA_CPP_PYTHON") or environments / "engine-llama-cpp" / "bin" / "python")
    return Installation(
        root=CHECKOUT,
        light_python=Path(sys.executable),
        ml_python=Path(environ.get("QUANTRY_ML_PYTHON") or environments / "ml" / "bin" / "python"),
        engine_python=Path(environ.get("QUANTRY_ENGINE_PYTHON") or environments / "engine-cpu" / "bin" / "python"),
        engine_script=Path(environ.get("QUANTRY_ENGINE_SCRIPT") or CHECKOUT / "services" / "engine" / "serve.py"),
        gptqmodel_python=gptqmodel_python if os.access(gptqmodel_python, os.X_OK) else None,
        llama_cpp_python=llama_cpp_python if os.access(llama_cpp_python, os.X_OK) else None,
    )
