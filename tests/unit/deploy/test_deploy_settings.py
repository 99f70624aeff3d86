"""Settings that follow from each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_deploy.settings import DeploySettings, DriverName


@pytest.mark.parametrize(
    ("driver", "said", "ends"),
    [
        (DriverName.PROCESS, None, True),
        (DriverName.PROCESS, False, False),
        (DriverName.KUBERNETES, None, False),
        (DriverName.KUBERNETES, True, True),
    ],
)
def test_processes_end_with_their_controller_and_pods_do_not(driver: DriverName, said: bool | None, ends: bool) -> None:
    settings = DeploySettings(
        deploy_port=1, deploy_dir=Path("/d"), engine_script=Path("/s"), deploy_driver=driver, stop_replicas_on_exit=said
    )
    assert settings.stops_replicas is ends


def test_a_release_may_name_servers_of_this_host_alone_unless_more_are_allowed() -> None:
    assert DeploySettings(deploy_port=1, deploy_dir=Path("/d"), engine_script=Path("/s")).static_hosts == "127.0.0.1,localhost,[::1]"
