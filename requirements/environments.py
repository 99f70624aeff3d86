"""Builds Quantry's Python environments from the hash-locked requirement files beside this file.

Everything is installed by its SHA-256 from a lock, with one exception: torch (and what only a GPU build of it pulls in).
Its wheel depends on the machine, so it is pinned by version alone and comes, unhashed, from PyTorch's index over HTTPS or
from the find-links place that UV_FIND_LINKS or PIP_FIND_LINKS names.

Runs on the plain Python of a fresh machine (3.11 or newer, Linux): standard library only. Environments land under
``.venvs/<name>``; each is rebuilt only when one of its inputs changed. Called by the Makefile:

    python3 requirements/environments.py build light ml engine-cpu
    python3 requirements/environments.py lock

Two builds at once wait for each other where they want the same environment.

``build`` prints how long downloads took and how long the rest took, and leaves the figures in ``.venvs/timings.json``.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
VENVS = ROOT / ".venvs"
TORCH = "torch==2.13.0"

LIGHT_PACKAGES = (
    "libs/core",
    "libs/telemetry",
    "libs/blobs",
    "libs/store",
    "libs/http",
    "libs/local",
    "clients/quantry",
    "services/api",
    "services/registry",
    "services/worker",
    "services/deploy",
    "services/gateway",
    "services/dashboard",
)


@dataclass(frozen=True)
class Environment:
    """One environment: its lock file, the project's own packages it carries, and whether torch comes first.

    ``native`` is a package that is built here, from its hashed source, with the environment's own torch and compilers.
    """

    lock: str
    packages: tuple[str, ...]
    has_torch: bool = False
    overrides: str | None = None
    native: str | None = None


ENVIRONMENTS = {
    "light": Environment("light", LIGHT_PACKAGES),
    "dev": Environment("dev", LIGHT_PACKAGES),
    "ml": Environment("ml", ("libs/core", "libs/blobs", "services/worker"), has_torch=True),
    "gptqmodel": Environment("gptqmodel", ("libs/core", "libs/blobs", "services/worker"), has_torch=True, native="gptqmodel"),
    "engine-cpu": Environment("engine-cpu", (), has_torch=True, overrides="engine-overrides.txt"),
    "engine-llama-cpp": Environment("engine-llama-cpp", ()),
}


@dataclass
class Timing:
    """Seconds spent on one environment."""

    download_s: float = 0.0
    install_s: float = 0.0
    notes: list[str] = field(default_factory=list)


class BuildError(Exception):
    """An environment could not be built; the message says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build or refresh environments")
    build.add_argument("names", nargs="+", choices=sorted(ENVIRONMENTS))
    commands.add_parser("lock", help="resolve the .in files into hash-locked .lock files again")
    arguments = parser.parse_args()
    try:
        check_machine()
        uv = bootstrap_uv()
        if arguments.command == "lock":
            lock_all(uv)
        else:
            build_all(uv, arguments.names)
    except BuildError as error:
        print(f"environments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("environments: interrupted; the same command builds what is missing", file=sys.stderr)
        return 130
    return 0


def check_machine() -> None:
    if sys.version_info < (3, 11):
        raise BuildError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; run make with PYTHON=python3.11")
    if not sys.platform.startswith("linux"):
        raise BuildError(f"Linux is needed, this is {sys.platform}")
    try:
        VENVS.mkdir(exist_ok=True)
        # A file without a name: another build at work here cannot take it away.
        with tempfile.TemporaryFile(dir=VENVS):
            pass
    except OSError as error:
        raise BuildError(f"{VENVS} cannot be written ({error.strerror}); choose a directory you own") from error


@contextmanager
def held_alone(name: str) -> Iterator[None]:
    """Waits until no other process builds this environment, and keeps others waiting until the block ends."""
    with (VENVS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"environments: waiting for another build of {name}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bootstrap_uv() -> Path:
    """Installs the pinned uv into its own environment with the machine's pip; returns the path of its executable."""
    with held_alone("uv"):
        return install_uv()


def install_uv() -> Path:
    uv = VENVS / "uv" / "bin" / "uv"
    stamp = VENVS / "uv" / ".stamp"
    digest = file_digest(REQUIREMENTS / "uv.lock")
    if uv.exists() and stamp.exists() and stamp.read_text() == digest:
        return uv
    print("environments: installing uv", flush=True)
    shutil.rmtree(VENVS / "uv", ignore_errors=True)
    run([sys.executable, "-m", "venv", str(VENVS / "uv")], hint="is the python3-venv package installed?")
    pip = [str(VENVS / "uv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", str(REQUIREMENTS / "uv.lock")], hint="is the package index reachable?")
    stamp.write_text(digest)
    return uv


def build_all(uv: Path, names: list[str]) -> None:
    started = time.monotonic()
    timings: dict[str, Timing] = {}
    for name in names:
        with held_alone(name):
            timing = build_one(uv, name)
        if timing is not None:
            timings[name] = timing
    for name, timing in timings.items():
        print(f"environments: {name:<11} downloads {timing.download_s:6.1f} s   install {timing.install_s:6.1f} s")
    download_s = sum(timing.download_s for timing in timings.values())
    total_s = time.monotonic() - started
    if timings:
        print(f"environments: {'all':<11} downloads {download_s:6.1f} s   the rest {total_s - download_s:5.1f} s", flush=True)
    figures = {"download_s": round(download_s, 1), "environments_s": round(total_s - download_s, 1), "built": sorted(timings)}
    (VENVS / "timings.json").write_text(json.dumps(figures) + "\n")


def build_one(uv: Path, name: str) -> Timing | None:
    """Builds one environment; returns None when the one on disk is up to date."""
    environment = ENVIRONMENTS[name]
    home = VENVS / name
    stamp = home / ".stamp"
    digest = inputs_digest(environment)
    if stamp.exists() and stamp.read_text() == digest:
        return None
    print(f"environments: building {name}", flush=True)
    stamp.unlink(missing_ok=True)
    timing = Timing()
    started = time.monotonic()
    run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)])
    linked = [str(uv), "pip", "install", "--python", str(home / "bin" / "python")]
    install = [*linked, "--compile-bytecode"]
    if environment.has_torch:
        timing.download_s += install_torch(install)
    lock = str(REQUIREMENTS / f"{environment.lock}.lock")
    timing.download_s += install_locked(install, lock, environment.native)
    editables = [part for package in environment.packages for part in ("-e", str(ROOT / package))]
    if editables:
        # Not compiled: these packages are run from the source tree, which is the user's.
        timed_install([*linked, "--no-compile-bytecode", "--no-deps", "--no-build-isolation", *editables])
    stamp.write_text(digest)
    timing.install_s = time.monotonic() - started - timing.download_s
    return timing


def install_locked(install: list[str], lock: str, native: str | None) -> float:
    """Installs a lock, each package by its hash. A native one comes last: its build uses what the others brought."""
    locked = [*install, "--require-hashes", "--no-deps", "-r", lock]
    if native is None:
        return timed_install(locked)
    with tempfile.TemporaryDirectory() as directory:
        others = Path(directory) / "others.lock"
        others.write_text(without_package(Path(lock).read_text(), native))
        download_s = timed_install([*install, "--require-hashes", "--no-deps", "-r", str(others)])
    return download_s + timed_install([*locked, "--no-build-isolation-package", native])


def without_package(lock: str, name: str) -> str:
    """Returns a lock's text without one package."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock)
    return "\n".join(block for block in blocks if not block.startswith(f"{name}=="))


def install_torch(install: list[str]) -> float:
    """Installs torch alone: the CPU wheel, or with QUANTRY_TORCH_BACKEND=auto the one that fits the machine's driver."""
    return timed_install([*install, *torch_request(torch_backend(), find_links())])


def torch_backend() -> str:
    return os.environ.get("QUANTRY_TORCH_BACKEND") or "cpu"


def torch_request(backend: str, links: str | None) -> list[str]:
    """Returns what uv is asked for. A CPU wheel at hand is taken by its full version, so that no index is asked for a GPU build."""
    if backend != "cpu":
        return [f"--torch-backend={backend}", TORCH]
    if holds_cpu_wheel(links):
        return ["--no-deps", f"{TORCH}+cpu"]
    return ["--no-deps", "--torch-backend=cpu", TORCH]


def holds_cpu_wheel(links: str | None) -> bool:
    """Tells whether a find-links folder on this machine holds torch's CPU wheel for this interpreter. URLs are not looked at."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheel = f"{TORCH.replace('==', '-')}+cpu-{tag}-{tag}-*_{platform.machine()}.whl"
    places = [Path(unquote(urlsplit(place).path) if place.startswith("file://") else place) for place in (links or "").split(",") if place]
    return any(next((ROOT / place).glob(wheel), None) is not None for place in places)


def timed_install(command: list[str]) -> float:
    """Runs an install and returns the seconds that uv spent on downloading (its "Prepared" line)."""
    finished = subprocess.run(command, cwd=ROOT, env=uv_environment(), capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        hint = "is the package index reachable, and is there room on the disk?"
        raise BuildError(f"'{' '.join(command[:3])}' failed:\n{finished.stderr.strip()}\n({hint})")
    prepared = re.search(r"Prepared \d+ packages? in (?:(\d+)m )?([\d.]+)(ms|s)", finished.stderr)
    if prepared is None:
        return 0.0
    seconds = float(prepared[2]) / (1000 if prepared[3] == "ms" else 1)
    return seconds + 60 * int(prepared[1] or 0)


def lock_all(uv: Path) -> None:
    """Resolves every .in file. Each lock serves CPython 3.11 and newer; torch and what only torch pulls in is left out."""
    skipped = ["torch", "triton", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit"]
    for name in ("uv", *ENVIRONMENTS):
        overrides = ENVIRONMENTS[name].overrides if name in ENVIRONMENTS else None
        compiled = [str(uv), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
        if overrides:
            compiled += ["--overrides", overrides]
        for package in skipped:
            compiled += ["--no-emit-package", package]
        run([*compiled, f"{name}.in", "-o", f"{name}.lock"], cwd=REQUIREMENTS)
        drop_cuda(REQUIREMENTS / f"{name}.lock")


def drop_cuda(lock: Path) -> None:
    """Leaves out the CUDA libraries that torch's GPU wheels pull in: they come with torch, in its own step."""
    blocks = re.split(r"\n(?=\S)", lock.read_text())
    kept = [block for block in blocks if not (re.match(r"nvidia-(?!ml-py)", block) and "via" in block)]
    lock.write_text("\n".join(kept).rstrip() + "\n")


def inputs_digest(environment: Environment) -> str:
    """Digest of what the environment is made from: its lock, the packages' pyproject files, this file, the interpreter, torch's origin."""
    paths = [REQUIREMENTS / f"{environment.lock}.lock", Path(__file__)]
    paths += [ROOT / package / "pyproject.toml" for package in environment.packages]
    parts = [sys.version, str(ROOT), *(file_digest(path) for path in paths)]
    if environment.has_torch:
        # The others come by their hashes, wherever from.
        parts += [f"torch backend {torch_backend()}", f"find links {find_links() or ''}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_links() -> str | None:
    """Returns the places as uv writes them, with commas between; pip's variable has spaces there."""
    return os.environ.get("UV_FIND_LINKS") or ",".join(os.environ.get("PIP_FIND_LINKS", "").split()) or None


def uv_environment() -> dict[str, str]:
    """The caller's environment; pip's find-links are handed on, because uv does not read them."""
    links = find_links()
    return {**os.environ, **({"UV_FIND_LINKS": links} if links else {})}


def run(command: list[str], *, hint: str = "", cwd: Path = ROOT) -> None:
    finished = subprocess.run(command, cwd=cwd, env=uv_environment(), capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise BuildError(f"'{' '.join(command[:4])}' failed: {finished.stderr.strip()}" + (f" ({hint})" if hint else ""))


if __name__ == "__main__":
    raise SystemExit(main())
