"""Light services never load torch: each is imported in a fresh interpreter and sys.modules is looked through."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT_MODULES = [
    "quantry_api.__main__",
    "quantry_registry.__main__",
    "quantry_worker.__main__",
    "quantry_deploy.__main__",
    "quantry_gateway.__main__",
    "quantry_dashboard.__main__",
    "quantry.cli.main",
    "quantry_local.commands",
]
HEAVY = ("torch", "transformers", "llmcompressor", "vllm", "quantry_worker.child")
ON_DEMAND = ("opentelemetry.exporter", "quantry_telemetry.exporting", "pynvml")
"""Loaded by a service that traces, or looks for GPUs, and by no other."""


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, importlib; importlib.import_module({module!r}); print([m for m in {HEAVY + ON_DEMAND!r} if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[]"
