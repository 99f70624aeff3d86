"""Throw-away environments of the public proxies. Nothing of them is installed anywhere else, and every file is checked by its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.embedded import ROOT

LOCKS = Path(__file__).parent / "requirements"
UV = ROOT / ".venvs" / "uv" / "bin" / "uv"
PRODUCTION_STACK_COMMIT = "a6c01db05f65f556235413ba8dbcfb0c01132fff"
PRODUCTION_STACK_SHA256 = "b790fe6e881c2348db676e05c0b925008b1ab22a5514bba4f18db79c657938c2"
"""Of the Python files of src/vllm_router at that commit."""


class NotHere(Exception):
    """A peer cannot run on this machine; the message says what it would take."""


def environment(name: str, directory: Path) -> Path:
    """Builds the environment of a lock below ``directory`` and returns its Python; NotHere where that cannot be done."""
    uv = str(UV) if UV.exists() else shutil.which("uv")
    if uv is None:
        raise NotHere("uv is missing; `make bench-gateway` builds it")
    # uv does not read pip's variable for the same places, and has commas between them.
    links = ",".join(os.environ.get("PIP_FIND_LINKS", "").split())
    found = {"UV_FIND_LINKS": links} if links else {}
    place = directory / name
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), "--require-hashes", "-r", str(LOCKS / f"{name}.lock")],
    ):
        done = subprocess.run(command, check=False, env={**found, **os.environ}, capture_output=True, text=True)
        if done.returncode:
            raise NotHere(f"the environment of {name} was not built: {done.stderr.strip()[-500:]}")
    return place / "bin" / "python"


def production_stack(checkout: Path | None) -> Path:
    """Returns the folder that holds the router's package; NotHere where no checkout of that very commit is given."""
    said = f"it is on no index: pass --production-stack <vllm-project/production-stack checked out at {PRODUCTION_STACK_COMMIT[:12]}>"
    if checkout is None:
        raise NotHere(said)
    sources = checkout / "src"
    if not (sources / "vllm_router" / "app.py").exists():
        raise NotHere(f"{checkout} has no src/vllm_router; {said}")
    digest = digest_of(sources / "vllm_router")
    if digest != PRODUCTION_STACK_SHA256:
        raise NotHere(f"{checkout} holds another commit (SHA-256 {digest[:12]}); {said}")
    return sources


def digest_of(package: Path) -> str:
    """Returns the SHA-256 over the names and bytes of a package's Python files, in order."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(f"{path.relative_to(package)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def version_of(python: Path, distribution: str) -> str:
    """Returns the version of a distribution in an environment."""
    return words([str(python), "-c", f"from importlib.metadata import version; print(version({distribution!r}))"])


def words(command: list[str]) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()
