"""The environment variables of a child process: few, and no secret among them but one, the hub's token for an import from the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr

from quantry_core.jobs import ImportSpec, JobSpec
from quantry_core.sources import HUB_PREFIX
from quantry_core.traces import TRACEPARENT_VARIABLE
from quantry_core.workers import Device

TOKEN_VARIABLE = "HF_TOKEN"
"""Where huggingface_hub looks for a token."""

WAY_TO_HUB = (
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "QUANTRY_OUTBOUND_PRIVATE",
)
"""Taken from the worker's own environment, where they are set, for an import from the hub alone: a proxy's address may hold a password."""

PASSED_THROUGH = ("QUANTRY_STATE_DIR", "KERNELS_CACHE", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Taken for every child: the stack the process belongs to, where compiled kernels lie that a child, which is offline, cannot fetch, and
how threads wait for each other where many processes share the cores."""

HUGGINGFACE_FOLDER = "huggingface"
"""Of an attempt: the HF_HOME of its child."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def is_hub_import(spec: JobSpec) -> bool:
    """Tells whether a job fetches from the Hugging Face hub: the only one that may look for anything outside."""
    return isinstance(spec, ImportSpec) and spec.source.startswith(HUB_PREFIX)


def child_environment(
    spec: JobSpec,
    *,
    parent: Mapping[str, str],
    directory: Path,
    num_threads: int,
    devices: Sequence[Device] = (),
    hub_token: SecretStr | None = None,
    traceparent: str | None = None,
) -> dict[str, str]:
    """Returns the whole environment of a job's child. ``directory`` is the attempt's: home, caches and temporary files lie in it.

    ``devices`` are the GPUs that it sees; without any it sees none, whatever the machine has. ``hub_token`` reaches an
    import from the hub alone. ``traceparent`` is the span that the child works for, where traces are on.
    """
    environment = {
        "PATH": parent.get("PATH", DEFAULT_PATH),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "TMPDIR": str(directory / "tmp"),
        "HF_HOME": str(directory / HUGGINGFACE_FOLDER),
        "OMP_NUM_THREADS": str(num_threads),
        "CUDA_VISIBLE_DEVICES": ",".join(device.id for device in devices),
        # Log lines arrive when they are written, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }
    environment.update({name: parent[name] for name in PASSED_THROUGH if name in parent})
    if traceparent is not None:
        environment[TRACEPARENT_VARIABLE] = traceparent
    if not is_hub_import(spec):
        environment["HF_HUB_OFFLINE"] = "1"
        return environment
    environment.update({name: parent[name] for name in WAY_TO_HUB if name in parent})
    # Its own way to the hub's storage, past the client that is guarded.
    environment["HF_HUB_DISABLE_XET"] = "1"
    if hub_token is not None:
        environment[TOKEN_VARIABLE] = hub_token.get_secret_value()
    return environment
