"""What a host has, what could never fit on it, and what waits for room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.client import version
from quantry_core.errors import NotServable, Unavailable
from quantry_core.jobs import EngineConfig
from quantry_core.methods import DeviceKind
from quantry_core.versions import Version
from quantry_deploy.drivers.host import Gpu, Host, parse_gpus, read_host

GIB = 1024**3
EIGHT = Host(64 * GIB, tuple(Gpu(str(index), 80 * GIB) for index in range(8)))


def weights(size_bytes: int) -> Version:
    return version({"config.json": b"{}"}).model_copy(update={"weights_bytes": size_bytes})


def engine(**changes: Any) -> EngineConfig:
    return EngineConfig.model_validate({"kv_cache_bytes": 4 * GIB, **changes})


def test_what_could_never_fit_into_memory_is_refused_with_the_numbers() -> None:
    Host(16 * GIB).check_fits(weights(12 * GIB), engine())
    with pytest.raises(NotServable, match="13,958,643,712 bytes of weights and 4,294,967,296 of KV cache, and the host has 17,179,869,184"):
        Host(16 * GIB).check_fits(weights(13 * GIB), engine())


def test_what_could_never_fit_on_its_gpus_is_refused_with_the_numbers() -> None:
    EIGHT.check_fits(weights(150 * GIB), engine(num_gpus=2))
    with pytest.raises(NotServable, match=r"too large for 2 GPUs of this host.*the largest 2 have 171,798,691,840 bytes"):
        EIGHT.check_fits(weights(157 * GIB), engine(num_gpus=2))
    with pytest.raises(NotServable, match="asks for 9 GPUs a replica, and this host has 8"):
        EIGHT.check_fits(weights(GIB), engine(num_gpus=9))


def test_gpus_of_an_unknown_size_refuse_nothing() -> None:
    Host(GIB, (Gpu("0"), Gpu("1", GIB))).check_fits(weights(500 * GIB), engine(num_gpus=2))


def test_no_gpu_is_given_twice_and_a_replica_waits_for_what_is_missing() -> None:
    assert EIGHT.choose_gpus(2, set()) == ("0", "1")
    assert EIGHT.choose_gpus(2, {"0", "2", "3"}) == ("1", "4")
    with pytest.raises(Unavailable, match="it waits for GPUs: 4 wanted, 3 of 8 on this host free"):
        EIGHT.choose_gpus(4, {"0", "1", "2", "3", "4"})
    assert Host(GIB).choose_gpus(4, set()) == ()


def test_a_replica_on_the_cpu_waits_for_memory_that_others_were_promised() -> None:
    host = Host(16 * GIB)
    host.check_free(6 * GIB, 8 * GIB, 2 * GIB)
    with pytest.raises(Unavailable, match=r"it takes 6\.1 GiB, and of 16\.0 GiB on this host 8\.0 GiB are available, 2\.0 GiB of them"):
        host.check_free(6 * GIB + GIB // 10, 8 * GIB, 2 * GIB)
    EIGHT.check_free(500 * GIB, 0, 0)


LISTED = ["0, GPU-aaaa, 81559", "1, GPU-bbbb, 81559", "2, GPU-cccc, [N/A]", "nothing to see"]


def test_gpus_are_read_from_what_nvidia_smi_lists() -> None:
    gpus = parse_gpus(LISTED)
    assert gpus == {"GPU-aaaa": Gpu("0", 81559 * 1024**2), "GPU-bbbb": Gpu("1", 81559 * 1024**2), "GPU-cccc": Gpu("2", None)}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program nvidia-smi that lists three GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "\n".join(f"echo '{line}'" for line in LISTED) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("smi")
def test_all_gpus_are_given_out_unless_some_are_named() -> None:
    def ids(gpus: str | None, environ: dict[str, str]) -> list[str]:
        return [gpu.id for gpu in read_host(DeviceKind.CUDA, gpus, environ).gpus]

    assert ids(None, {}) == ["0", "1", "2"]
    assert ids(None, {"CUDA_VISIBLE_DEVICES": "2,0"}) == ["2", "0"]
    assert ids("GPU-bbbb", {"CUDA_VISIBLE_DEVICES": "2,0"}) == ["GPU-bbbb"]
    assert ids("", {}) == []
    assert read_host(DeviceKind.CUDA, "GPU-bbbb", {}).gpus[0].memory_bytes == 81559 * 1024**2
    assert read_host(DeviceKind.CPU, "0,1", {}).gpus == ()
    assert read_host(None, None, {"CUDA_VISIBLE_DEVICES": "0"}).gpus == ()
