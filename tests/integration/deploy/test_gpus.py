"""GPUs of a host: each goes to one replica at a time, whatever controller gives them out. The engines only say which they see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factories.deploy import ask
from factories.pools import ProcessPool, until
from quantry_core.errors import Unavailable
from quantry_core.jobs import EngineConfig, JobReason
from quantry_core.methods import DeviceKind
from quantry_core.rollouts import Replica
from quantry_deploy.drivers.host import Gpu, Host
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.drivers.protocol import PoolDriver
from quantry_deploy.observations import PullState

GIB = 1024**3


class GpuPool(ProcessPool):
    """Over a host of three GPUs of 10 GiB each."""

    def make_driver(self) -> PoolDriver:
        settings = self.settings.model_copy(update={"engine_device": DeviceKind.CUDA})
        host = Host(8 * GIB, tuple(Gpu(str(index), 10 * GIB) for index in range(3)))
        return ProcessDriver(settings, self.cache(), EngineProbe(), host)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[GpuPool]:
    made = GpuPool(tmp_path)
    yield made
    await made.close()


async def gpus_of(replica: Replica) -> str:
    """Returns what an engine sees."""
    environment = (await ask(str(replica.url)))["environment"]
    assert isinstance(environment, dict)
    return str(environment["CUDA_VISIBLE_DEVICES"])


async def test_no_gpu_is_given_twice_not_even_by_the_next_controller(pool: GpuPool) -> None:
    version = pool.version()
    pair = pool.release(version, engine=EngineConfig(num_gpus=2))
    single = pool.release(version, num_replicas=2)
    first = await pool.ready(version, pair)
    assert await gpus_of(first) == "0,1"
    pool.replace_driver()
    second = await pool.ready(version, single)
    assert await gpus_of(second) == "2"
    with pytest.raises(Unavailable, match="it waits for GPUs: 1 wanted, 0 of 3 on this host free"):
        await pool.started(version, single, 1)
    await pool.driver.kill(first)

    async def is_gone() -> bool:
        return first.id not in await pool.driver.running()

    await until(is_gone)
    third = await pool.ready(version, single, 1)
    assert await gpus_of(third) == "0"


async def test_what_could_never_fit_is_refused_before_it_is_fetched(pool: GpuPool) -> None:
    version = pool.version().model_copy(update={"weights_bytes": 25 * GIB})
    for num_gpus, words in ((2, "too large for 2 GPUs of this host"), (4, "asks for 4 GPUs a replica, and this host has 3")):
        release = pool.release(version, engine=EngineConfig(num_gpus=num_gpus))
        assert await pool.pulled(version, release) is PullState.REFUSED
        refused = pool.driver.pull_status(version, release)
        assert (refused.reason, words in refused.message) == (JobReason.INVALID_INPUT, True)
    assert pool.shelf.num_fetched == 0
    assert await pool.pulled(version, pool.release(version, engine=EngineConfig(num_gpus=3))) is PullState.DONE
