"""What ``quantry doctor`` looks at where this machine can run the embedded stack: its Python environments, its ports, its parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quantry.checkup.findings import Check, Finding, Teller
from quantry.config import client_file_path
from quantry_local.installation import Installation, find_installation
from quantry_local.ports import DEFAULT_GATEWAY_PORT, holder, is_free
from quantry_local.stack import Options, Stack
from quantry_local.state import load_ports

AREA = "stack"


def checks() -> Sequence[Check]:
    """Returns the looks at this machine's stack."""
    state_dir = client_file_path().parent
    return [
        Check(AREA, "environments", lambda: look_at_environments(find_installation())),
        Check(AREA, "parts", lambda: look_at_parts(state_dir)),
    ]


def look_at_environments(installation: Installation) -> list[Finding]:
    """Tells which Python environments are built: what jobs and engines run in."""
    tell = Teller(AREA, "environments")
    needed = {"ml": installation.ml_python, "engine-cpu": installation.engine_python}
    missing = [name for name, python in needed.items() if not os.access(python, os.X_OK)]
    if missing:
        words = f"not built: {', '.join(missing)}; `quantry up` needs them"
        return [tell.warn(words, f"python3 requirements/environments.py build {' '.join(missing)}")]
    more = {"gptqmodel": installation.gptqmodel_python, "engine-llama-cpp": installation.llama_cpp_python}
    built = [*needed, *(name for name, python in more.items() if python is not None)]
    return [tell.ok(f"built: {', '.join(built)}")]


def look_at_parts(state_dir: Path) -> list[Finding]:
    """Tells whether every part of the stack that runs here answers; where none runs, whether its port is free."""
    parts = Stack(Options(state_dir)).status()
    if parts:
        away = [part for part in parts if not part.is_ready]
        tell = Teller(AREA, "parts")
        if not away:
            return [tell.ok(f"{len(parts)} run and answer, for {state_dir.resolve()}")]
        return [tell.fail(f"{part.name} is {part.state.lower()} and does not answer", f"see {state_dir}/logs") for part in away]
    remembered = load_ports(state_dir)
    port = DEFAULT_GATEWAY_PORT if remembered is None else remembered.gateway
    tell = Teller(AREA, "ports")
    if is_free(port):
        return [tell.ok(f"nothing runs for {state_dir.resolve()}; port {port} is free for it")]
    return [tell.warn(f"nothing runs for {state_dir.resolve()}, and port {port} is taken{holder(port)}", "quantry up --port another")]
