"""What requirements/environments.py asks uv for, and when it builds anew."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quantry_local.installation import CHECKOUT

LINKS_VARIABLES = ("UV_FIND_LINKS", "PIP_FIND_LINKS", "QUANTRY_TORCH_BACKEND")


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with none of its variables set."""
    for name in LINKS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("environments", CHECKOUT / "requirements" / "environments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "environments", module)
    spec.loader.exec_module(module)
    return module


def put_wheel(folder: Path, version: str) -> str:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder.mkdir(exist_ok=True)
    (folder / f"torch-{version}-{tag}-{tag}-manylinux_2_28_{platform.machine()}.whl").touch()
    return str(folder)


def test_torch_comes_from_the_index_of_the_backend(environments: ModuleType) -> None:
    assert environments.torch_request("cpu", None) == ["--no-deps", "--torch-backend=cpu", "torch==2.13.0"]
    assert environments.torch_request("auto", None) == ["--torch-backend=auto", "torch==2.13.0"]


def test_a_cpu_wheel_at_hand_is_taken_and_a_gpu_wheel_is_not(environments: ModuleType, tmp_path: Path) -> None:
    gpu = put_wheel(tmp_path / "gpu", "2.13.0")
    assert "--torch-backend=cpu" in environments.torch_request("cpu", gpu)
    cpu = put_wheel(tmp_path / "my cpu", "2.13.0+cpu")
    for links in (cpu, f"{gpu},{cpu}", Path(cpu).as_uri()):
        assert environments.torch_request("cpu", links) == ["--no-deps", "torch==2.13.0+cpu"]
    assert environments.torch_request("cu130", cpu) == ["--torch-backend=cu130", "torch==2.13.0"]


def test_another_origin_of_torch_builds_what_has_torch_anew(
    environments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests() -> dict[str, str]:
        return {name: environments.inputs_digest(one) for name, one in environments.ENVIRONMENTS.items()}

    before = digests()
    monkeypatch.setenv("QUANTRY_TORCH_BACKEND", "auto")
    with_backend = digests()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with_links = digests()
    for old, new in ((before, with_backend), (with_backend, with_links)):
        assert {name for name in old if old[name] != new[name]} == {"ml", "gptqmodel", "engine-cpu"}


def test_pips_places_are_handed_on_as_uv_writes_them(environments: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environments.find_links() is None
    monkeypatch.setenv("PIP_FIND_LINKS", "/a https://b/c")
    assert environments.uv_environment()["UV_FIND_LINKS"] == "/a,https://b/c"


def test_the_projects_own_packages_are_not_compiled(environments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "ml").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments, "VENVS", tmp_path)
    monkeypatch.setattr(environments.subprocess, "run", run)
    environments.build_one(Path("uv"), "ml")
    _, torch, locked, own = commands
    assert "--compile-bytecode" in torch
    assert "--compile-bytecode" in locked
    assert "-e" in own
    assert "--compile-bytecode" not in own


def test_ctrl_c_ends_it_in_one_line(environments: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "check_machine", interrupt)
    monkeypatch.setattr(sys, "argv", ["environments.py", "build", "light"])
    assert environments.main() == 130
    assert capsys.readouterr().err.splitlines() == ["environments: interrupted; the same command builds what is missing"]


def test_builds_at_once_build_an_environment_once_and_none_fails(tmp_path: Path) -> None:
    """Four processes, twenty rounds each: more than enough for a file of one to be taken away by another."""
    script = tmp_path / "build.py"
    script.write_text(
        f"""
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("environments", {str(CHECKOUT / "requirements" / "environments.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules["environments"] = module
spec.loader.exec_module(module)
module.VENVS = Path({str(tmp_path / "venvs")!r})

def build_one(uv, name):
    stamp = module.VENVS / name
    if not stamp.exists():
        time.sleep(0.2)
        with (module.VENVS / "built.txt").open("a") as told:
            told.write(name + "\\n")
        stamp.touch()

module.build_one = build_one
for number in range(20):
    module.check_machine()
    module.build_all(Path("uv"), [f"round{{number % 3}}"])
"""
    )
    builders = [subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(builder.communicate(timeout=60)[1], builder.returncode) for builder in builders] == [("", 0)] * 4
    assert sorted((tmp_path / "venvs" / "built.txt").read_text().split()) == ["round0", "round1", "round2"]
