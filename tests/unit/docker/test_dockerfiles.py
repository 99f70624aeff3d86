"""Every Dockerfile, without a Docker: pinned, unprivileged, no secrets, and only of files that are there."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from factories.dockerfiles import DOCKERFILES, ROOT, Stage, stage_named, stages_of

PINNED = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$")
BY_TAG = {"vllm/vllm-openai:v0.32.0"}
"""Bases whose digest nobody looked up."""
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE|_KEY\b|_KEYS\b|API_KEY", re.IGNORECASE)
LABELS = ("title", "description", "licenses", "version", "revision")
OWN_FOLDERS = {
    "quantry_core": "libs/core",
    "quantry_telemetry": "libs/telemetry",
    "quantry_blobs": "libs/blobs",
    "quantry_store": "libs/store",
    "quantry_http": "libs/http",
    "quantry": "clients",
    **{f"quantry_{name}": f"services/{name}" for name in ("api", "registry", "gateway", "dashboard", "deploy", "worker")},
}
every_file = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def final_stages(path: Path) -> list[Stage]:
    """Returns the stages that images are made of: those with an entry point of their own or inherited."""
    return [
        stage
        for stage in (stage_named(path, stage.name) for stage in stages_of(path) if stage.name not in {"build", "engines", "uv"})
        if stage.of("CMD") or stage.of("ENTRYPOINT")
    ]


def test_there_is_a_dockerfile_for_each_service() -> None:
    names = {path.name for path in DOCKERFILES}
    assert {f"{name}.Dockerfile" for name in ("api", "registry", "gateway", "dashboard", "deploy", "deploy-cuda", "worker")} <= names
    assert {"Dockerfile.cpu", "Dockerfile.cuda", "Dockerfile.llama-cpp"} <= names


@every_file
def test_what_an_image_begins_with_is_pinned(path: Path) -> None:
    stages = stages_of(path)
    assert stages
    own = {stage.name for stage in stages}
    for stage in stages:
        assert stage.base in own or stage.base in BY_TAG or PINNED.match(stage.base), stage.base


def test_one_python_is_in_every_image() -> None:
    bases = {stage.base for path in DOCKERFILES for stage in stages_of(path) if stage.base.startswith("python:")}
    assert len(bases) == 1
    version = re.match(r"python:3\.11\.\d+-slim-trixie@", bases.pop())
    assert version is not None


@every_file
def test_nobody_is_root_and_nothing_is_fetched_or_hidden(path: Path) -> None:
    assert final_stages(path)
    for stage in final_stages(path):
        assert stage.of("USER")[-1] == "10001:10001"
        assert not stage.of("ADD"), "ADD fetches and unpacks"
        assert not stage.of("VOLUME"), "what is written below a VOLUME of an image is lost without a word"
        assert stage.of("HEALTHCHECK")
        labels = " ".join(stage.of("LABEL"))
        assert all(f"org.opencontainers.image.{name}=" in labels for name in LABELS)
    for stage in stages_of(path):
        for kind in ("ENV", "ARG"):
            for arguments in stage.of(kind):
                assert not any(SECRET_NAME.search(word.partition("=")[0]) for word in arguments.split()), arguments
        for command in stage.of("RUN"):
            assert not re.search(r"\b(curl|wget|sudo|chmod 777)\b|\| *(ba)?sh\b", command), command
            assert "latest" not in command


@every_file
def test_every_package_is_installed_by_its_hash(path: Path) -> None:
    commands = [command for stage in stages_of(path) for command in stage.of("RUN")]
    for command in commands:
        if "pip install" in command:
            assert "--require-hashes" in command, command
    if "vllm" not in stages_of(path)[-1].base or "deploy" in path.name:
        assert any("requirements/environments.py build" in one or "docker/install.py" in one for one in commands)


@every_file
def test_commands_are_words_and_not_shells(path: Path) -> None:
    for stage in final_stages(path):
        for kind in ("CMD", "ENTRYPOINT"):
            for arguments in stage.of(kind):
                assert arguments.startswith("["), arguments


@every_file
def test_what_is_copied_is_there_and_reaches_the_builder(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "everything that is not named stays here: secrets, environments, data"
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    names = {stage.name for stage in stages_of(path)}
    for stage in stages_of(path):
        for source_stage, sources, _target in stage.copies():
            if source_stage is not None:
                assert source_stage in names
                continue
            for source in sources:
                assert (ROOT / source).exists(), f"{path.name} copies {source}"
                assert any(source == kept or source.startswith(f"{kept}/") for kept in sent), f"{source} is in .dockerignore"


def test_no_secret_and_no_environment_reaches_the_builder() -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not any(name in kept for kept in sent for name in ("secrets", ".venvs", ".git", ".quantry", "tests"))
    assert all((ROOT / kept).exists() for kept in sent)


@pytest.mark.parametrize("service", ["api", "registry", "gateway", "dashboard", "worker", "deploy"])
def test_an_image_holds_what_its_service_imports_and_no_other_service(service: str) -> None:
    stage = stage_named(ROOT / "docker" / f"{service}.Dockerfile", "service" if service == "deploy" else None)
    copied = {target.removeprefix("./") for source, _, target in stage.copies() if source == "build"}
    packages = [package for package, folder in OWN_FOLDERS.items() if folder in copied]
    assert f"quantry_{service}" in packages
    missing = {(package, other) for package in packages for other in own_imports(package) if OWN_FOLDERS[other] not in copied}
    assert missing == set()
    assert [folder for folder in copied if folder.startswith("services/") and folder != "services/engine"] == [f"services/{service}"]


def own_imports(package: str) -> set[str]:
    """Returns which packages of the project's a package imports anywhere."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    found = set()
    for file in Path(spec.submodule_search_locations[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found |= {name.partition(".")[0] for name in names}
    return found & set(OWN_FOLDERS) - {package}


@pytest.mark.parametrize("service", ["api", "registry", "gateway", "dashboard", "deploy", "worker"])
def test_an_image_starts_the_module_of_its_service(service: str) -> None:
    stage = stage_named(ROOT / "docker" / f"{service}.Dockerfile", "service" if service == "deploy" else None)
    assert stage.command("CMD") == ["python", "-m", f"quantry_{service}"]
    assert importlib.util.find_spec(f"quantry_{service}.__main__") is not None


def test_the_client_programs_are_as_new_as_the_server_of_compose() -> None:
    [server] = re.findall(r"image: postgres:(\d+)\.", (ROOT / "docker-compose.yml").read_text())
    installed = " ".join(stage_named(ROOT / "docker" / "registry.Dockerfile", None).of("RUN"))
    assert f"postgresql-client-{server} " in installed
