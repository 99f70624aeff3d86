"""Builds and tags every image of the platform; with --push also publishes them. Standard library only, and a docker on PATH.

python3 docker/build_images.py --registry ghcr.io --tag 0.1.0
python3 docker/build_images.py --only api,registry
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "quantry"
REGISTRY, TAG = "ghcr.io", "0.1.0"
CUDA = "cu130"
"""The torch build of the CUDA images; --cuda takes another one, as the hosts' drivers have it."""


@dataclass(frozen=True)
class Image:
    """One image: which Dockerfile makes it, which of its stages, and with which arguments."""

    dockerfile: str
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)


IMAGES = {
    "api": Image("docker/api.Dockerfile"),
    "registry": Image("docker/registry.Dockerfile"),
    "gateway": Image("docker/gateway.Dockerfile"),
    "dashboard": Image("docker/dashboard.Dockerfile"),
    "deploy": Image("docker/deploy.Dockerfile", target="service"),
    "deploy-cpu": Image("docker/deploy.Dockerfile", target="cpu"),
    "deploy-cuda": Image("docker/deploy-cuda.Dockerfile"),
    "worker": Image("docker/worker.Dockerfile", arguments={"TORCH_BACKEND": "cpu"}),
    "worker-cuda": Image("docker/worker.Dockerfile", arguments={"TORCH_BACKEND": CUDA}),
    "engine-cpu": Image("services/engine/Dockerfile.cpu"),
    "engine-cuda": Image("services/engine/Dockerfile.cuda"),
    "engine-llama-cpp": Image("services/engine/Dockerfile.llama-cpp"),
}
"""Every image by its name; docker-compose.yml and the chart name the same."""


def reference(name: str, registry: str, tag: str) -> str:
    """Returns an image as it is pulled: ``ghcr.io/quantry/api:0.1.0``."""
    return f"{registry.rstrip('/')}/{REPOSITORY}/{name}:{tag}" if registry else f"{REPOSITORY}/{name}:{tag}"


def command(name: str, image: Image, *, registry: str, tag: str, revision: str, cuda: str = CUDA) -> list[str]:
    """Returns the command line that builds an image."""
    given = {**image.arguments, "VERSION": tag, "REVISION": revision}
    if given.get("TORCH_BACKEND") == CUDA:
        given["TORCH_BACKEND"] = cuda
    words = ["docker", "build", "--file", image.dockerfile, "--tag", reference(name, registry, tag)]
    if image.target is not None:
        words += ["--target", image.target]
    for argument, value in given.items():
        words += ["--build-arg", f"{argument}={value}"]
    return [*words, "."]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: that of the first docker that failed."""
    options = _parser().parse_args(arguments)
    unknown = sorted(set(options.only) - set(IMAGES))
    if unknown:
        sys.stderr.write(f"build_images: there is no image {', '.join(unknown)}; there are {', '.join(IMAGES)}\n")
        return 2
    if not options.dry_run and shutil.which("docker") is None:
        sys.stderr.write("build_images: there is no docker on PATH\n")
        return 2
    names = options.only or list(IMAGES)
    steps = [
        command(name, IMAGES[name], registry=options.registry, tag=options.tag, revision=options.revision, cuda=options.cuda)
        for name in names
    ]
    if options.push:
        # All are built before one is published.
        steps += [["docker", "push", reference(name, options.registry, options.tag)] for name in names]
    for step in steps:
        sys.stdout.write(f"{' '.join(step)}\n")
        sys.stdout.flush()
        if not options.dry_run and (status := subprocess.run(step, cwd=ROOT, check=False).returncode):
            return status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", default=REGISTRY, help=f"before the image's name; {REGISTRY}")
    parser.add_argument("--tag", default=TAG, help=f"of every image; {TAG}")
    parser.add_argument("--revision", default="unknown", help="commit that they are built of, for their labels")
    parser.add_argument("--cuda", default=CUDA, help=f"torch build of worker-cuda; {CUDA}")
    parser.add_argument("--only", type=lambda text: [name for name in text.split(",") if name], default=[], help="these, commas between")
    parser.add_argument("--push", action="store_true", help="publish them once all are built")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
