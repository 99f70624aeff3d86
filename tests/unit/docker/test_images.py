"""What `make images` would run, and what an image's environment is made of."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from factories.chart.cases import EXTERNAL
from factories.chart.rendering import merged, render
from factories.compose import compose
from factories.dockerfiles import DOCKERFILES, ROOT, stages_of


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docker_{name}", ROOT / "docker" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build_images, install, make_secrets = (load(name) for name in ("build_images", "install", "make_secrets"))


def test_every_dockerfile_is_built_and_every_stage_there() -> None:
    built = {ROOT / image.dockerfile for image in build_images.IMAGES.values()}
    assert built == set(DOCKERFILES)
    for image in build_images.IMAGES.values():
        stages = stages_of(ROOT / image.dockerfile)
        assert image.target is None or image.target in {stage.name for stage in stages}
        declared = {word.partition("=")[0] for stage in stages for arguments in stage.of("ARG") for word in arguments.split()}
        assert {*image.arguments, "VERSION", "REVISION"} <= declared


def test_compose_builds_the_same_images() -> None:
    for name, service in compose().services.items():
        if not service.is_ours:
            continue
        image = build_images.IMAGES[service.image_name]
        assert service.image == build_images.reference(service.image_name, build_images.REGISTRY, build_images.TAG)
        if service.build is not None:
            assert (service.build.dockerfile, service.build.target) == (image.dockerfile, image.target), name
            assert service.build.args == image.arguments, name
    built = {service.image_name for service in compose().services.values() if service.build is not None}
    assert {service.image_name for service in compose().services.values() if service.is_ours} == built


def test_the_chart_asks_for_images_that_are_built() -> None:
    values = (ROOT / "helm" / "quantry" / "values.yaml").read_text()
    asked = set(re.findall(r"repository: quantry/(\S+)", values))
    assert asked
    assert asked <= set(build_images.IMAGES)
    for device in ("cpu", "cuda"):
        # Engines have the image of their device, of the registry and tag that all others have.
        mirrored = merged(EXTERNAL, {"deploy": {"engineDevice": device}, "image": {"registry": "mirror.example.com", "tag": "9"}})
        image = render(mirrored).pod("deploy").environment("deploy")["QUANTRY_KUBE_IMAGE_VLLM"]
        assert image == build_images.reference(f"engine-{device}", "mirror.example.com", "9")
        assert f"engine-{device}" in build_images.IMAGES


def test_a_command_line_names_file_tag_stage_and_arguments() -> None:
    image = build_images.IMAGES["worker-cuda"]
    words = build_images.command("worker-cuda", image, registry="r.example/", tag="1.2", revision="abc", cuda="cu128")
    assert words == [
        *("docker", "build", "--file", "docker/worker.Dockerfile", "--tag", "r.example/quantry/worker-cuda:1.2"),
        *("--build-arg", "TORCH_BACKEND=cu128", "--build-arg", "VERSION=1.2", "--build-arg", "REVISION=abc", "."),
    ]
    cpu = build_images.command("deploy-cpu", build_images.IMAGES["deploy-cpu"], registry="", tag="1", revision="x")
    assert cpu[cpu.index("--target") + 1] == "cpu"
    assert "quantry/deploy-cpu:1" in cpu


def test_a_dry_run_builds_all_before_it_publishes(capsys: pytest.CaptureFixture[str]) -> None:
    assert build_images.main(["--dry-run", "--push", "--only", "api,gateway"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["build", "build", "push", "push"]
    assert build_images.main(["--only", "apy"]) == 2
    assert "there is no image apy" in capsys.readouterr().err


def test_an_image_holds_no_server_and_everything_else() -> None:
    environments = install.load_environments()
    lock = (ROOT / "requirements" / "light.lock").read_text()
    names = [re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE) for text in (lock, install.services_lock(environments))]
    assert set(names[0]) - set(names[1]) == set(install.EMBEDDED_ONLY)
    assert [name for name in names[0] if name in names[1]] == names[1]
    hashes = install.services_lock(environments).count("--hash=sha256:")
    assert hashes > len(names[1]), "every package goes by its hashes"
    assert set(environments.LIGHT_PACKAGES) - set(install.packages(environments)) == {install.EMBEDDED_PACKAGE}
    needed = re.search(r"dependencies = \[([^\]]*)\]", (ROOT / "libs" / "local" / "pyproject.toml").read_text())
    assert needed is not None
    assert all(f'"{name}"' in needed[1] for name in install.EMBEDDED_ONLY), "the embedded stack's own"


def test_secrets_are_made_once_and_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert set(make_secrets.make(folder)) == {*make_secrets.MADE, *make_secrets.DERIVED}
    assert set(make_secrets.make(folder)) == set()
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}, "containers have users of their own"
    assert made["postgres_password"] in made["database_url"]
    assert made["redis_conf"] == f"requirepass {made['redis_password']}"
    assert made["broker_url"] == f"redis://:{made['redis_password']}@redis:6379/0"
    assert len({value for name, value in made.items() if name in make_secrets.MADE}) == len(make_secrets.MADE)
    (folder / "dashboard_secret").unlink()
    (folder / "redis_password").write_text("chosen\n")
    assert make_secrets.make(folder) == ["dashboard_secret"]
    assert (folder / "redis_conf").read_text() == "requirepass chosen\n"
    assert (folder / "capture_keys").read_text().strip() == made["capture_keys"]


def test_compose_mounts_what_is_made() -> None:
    mounted = {definition.file.removeprefix("docker/secrets/") for definition in compose().secrets.values()}
    assert mounted == {*make_secrets.MADE, *make_secrets.DERIVED} - {"redis_password"}, "which redis_conf holds"
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
