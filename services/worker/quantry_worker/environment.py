"""The environment variables of a child process: few, and no secret among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantry_core.jobs import ImportSpec, JobSpec
from quantry_core.workers import Device

HUB_SOURCE_PREFIX = "hf:"

PASSED_THROUGH = (
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "QUANTRY_STATE_DIR",
)
"""Taken from the worker's own environment where they are set: the way to the model hub, and the stack the process belongs to."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def child_environment(
    spec: JobSpec, *, parent: Mapping[str, str], directory: Path, num_threads: int, device: Device | None = None
) -> dict[str, str]:
    """Returns the whole environment of a job's child. ``directory`` is the attempt's: home, caches and temporary files lie in it.

    ``device`` is the one GPU that it sees; without one it sees none, whatever the machine has.
    """
    environment = {
        "PATH": parent.get("PATH", DEFAULT_PATH),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "TMPDIR": str(directory / "tmp"),
        "HF_HOME": str(directory / "huggingface"),
        "OMP_NUM_THREADS": str(num_threads),
        "CUDA_VISIBLE_DEVICES": "" if device is None else device.id,
        # Log lines arrive when they are written, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }
    environment.update({name: parent[name] for name in PASSED_THROUGH if name in parent})
    if not (isinstance(spec, ImportSpec) and spec.source.startswith(HUB_SOURCE_PREFIX)):
        # Only an import from the hub may look for anything outside.
        environment["HF_HUB_OFFLINE"] = "1"
    return environment
