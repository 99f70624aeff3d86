from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from quantry_worker.toolchains import OWN_CHILD_DIRECTORY, child_directory, site_packages, source_digest, toolchain_digest


class VirtualEnvironment:
    """The files of a virtual environment, without an interpreter."""

    def __init__(self, root: Path) -> None:
        self.packages = root / "lib" / "python3.11" / "site-packages"
        self.packages.mkdir(parents=True)
        (root / "pyvenv.cfg").touch()
        (root / "bin").mkdir()
        self.python = root / "bin" / "python"
        self.python.symlink_to(sys.executable)

    def install(self, name: str, version: str) -> Path:
        folder = self.packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return folder


@pytest.fixture
def environment(tmp_path: Path) -> VirtualEnvironment:
    return VirtualEnvironment(tmp_path / "venv")


def test_the_digest_is_that_of_sorted_names_and_versions(environment: VirtualEnvironment) -> None:
    environment.install("torch", "2.13.0")
    environment.install("Compressed_Tensors", "0.17.0")
    environment.install("quantry_core", "0.1.0")
    lines = sorted(
        ["compressed-tensors==0.17.0", "torch==2.13.0", "python3.11", f"quantry_worker/child=={source_digest(OWN_CHILD_DIRECTORY)}"]
    )
    assert toolchain_digest(environment.python) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_another_version_is_another_toolchain(environment: VirtualEnvironment, tmp_path: Path) -> None:
    other = VirtualEnvironment(tmp_path / "other")
    environment.install("torch", "2.13.0")
    other.install("torch", "2.13.0")
    assert toolchain_digest(environment.python) == toolchain_digest(other.python)
    other.install("transformers", "5.0")
    assert toolchain_digest(environment.python) != toolchain_digest(other.python)


def test_the_childs_code_is_part_of_it(environment: VirtualEnvironment) -> None:
    before = toolchain_digest(environment.python)
    child = environment.packages / "quantry_worker" / "child"
    child.mkdir(parents=True)
    (child / "recipe.py").write_text("damping = 0.01\n")
    between = toolchain_digest(environment.python)
    (child / "recipe.py").write_text("damping = 0.02\n")
    assert len({before, between, toolchain_digest(environment.python)}) == 3


def test_an_editable_install_is_followed(environment: VirtualEnvironment, tmp_path: Path) -> None:
    child = tmp_path / "a source" / "quantry_worker" / "child"
    child.mkdir(parents=True)
    url = {"url": (tmp_path / "a source").as_uri(), "dir_info": {"editable": True}}
    (environment.install("quantry_worker", "0.1.0") / "direct_url.json").write_text(json.dumps(url))
    assert child_directory([environment.packages]) == child


def test_the_environment_of_these_tests_has_packages() -> None:
    assert any((directory / "pytest").is_dir() for directory in site_packages(Path(sys.executable)))


def test_an_interpreter_without_packages_has_a_digest_too(tmp_path: Path) -> None:
    assert len(toolchain_digest(tmp_path / "bin" / "python")) == 64
