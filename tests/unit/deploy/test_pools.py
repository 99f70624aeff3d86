"""Which driver a release and its replicas come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from factories.client import version
from factories.rollout_records import release, replica
from quantry_core.rollouts import ReplicaState
from quantry_deploy.drivers.pools import Pools
from quantry_deploy.drivers.protocol import PoolDriver, StartOrder

OWN = release("rel_own")
SERVERS = release("rel_servers").model_copy(update={"servers": ["http://127.0.0.1:9"]})


class Recorder:
    """Notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def answer(*_arguments: object, **_named: object) -> Any:
            self.asked.append(name)
            return None if name in {"know", "pull", "pull_status"} else later(name)

        async def later(name: str) -> Any:
            return {"running": {}}.get(name)

        return answer


async def test_releases_that_name_servers_and_their_replicas_come_to_the_static_driver() -> None:
    own, static = Recorder(), Recorder()
    pools = Pools(cast(PoolDriver, own), cast(PoolDriver, static))
    pools.know([OWN, SERVERS])
    for asked, heard, deaf in ((OWN, own, static), (SERVERS, static, own)):
        deaf_to, placed = len(deaf.asked), replica(ReplicaState.READY, asked.id)
        pools.pull(version({"a": b""}), asked)
        pools.pull_status(version({"a": b""}), asked)
        await pools.start(StartOrder(placed, asked, "chat", version({"a": b""})))
        await pools.probe(placed, "chat")
        await pools.loaded_adapters(placed)
        await pools.load_adapter(placed, "one", version({"a": b""}))
        await pools.unload_adapter(placed, "one")
        await pools.terminate(placed)
        await pools.kill(placed)
        await pools.log_tail(placed)
        await pools.scaled_to(asked)
        expected = ["pull", "pull_status", "start", "probe", "loaded_adapters", "load_adapter", "unload_adapter"]
        assert heard.asked[1:] == [*expected, "terminate", "kill", "log_tail", "scaled_to"]
        assert len(deaf.asked) == deaf_to


async def test_strays_and_files_are_the_own_drivers_and_both_end(tmp_path: Path) -> None:
    own, static = Recorder(), Recorder()
    pools = Pools(cast(PoolDriver, own), cast(PoolDriver, static))
    await pools.kill_strays("rep_1", [1])
    await pools.prune(["abc"])
    assert (own.asked, static.asked) == (["kill_strays", "prune"], [])
    assert await pools.running() == {}
    await pools.stop_all(within_s=1.0)
    await pools.close()
    assert own.asked[-2:] == static.asked[-2:] == ["stop_all", "close"]
