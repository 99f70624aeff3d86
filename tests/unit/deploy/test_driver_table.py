"""Which driver an installation has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from quantry_core.versions import ManifestFile
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.drivers.kubernetes.driver import KubernetesDriver
from quantry_deploy.drivers.pools import Pools
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.drivers.table import make_driver
from quantry_deploy.settings import DeploySettings, DriverName

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "test",
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    "clusters": [{"name": "test", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "test", "user": {"token": "token"}}],
}


class Empty:
    """A vault without anything."""

    def fetch(self, file: ManifestFile, to: Path) -> None:
        raise FileNotFoundError(file.path)


@pytest.mark.parametrize(("name", "kind"), [(DriverName.PROCESS, ProcessDriver), (DriverName.KUBERNETES, KubernetesDriver)])
async def test_each_name_has_its_driver(name: DriverName, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("QUANTRY_KUBE_CACHE_CLAIM", "models")
    settings = DeploySettings(deploy_port=1, deploy_dir=tmp_path, engine_script=Path("/serve.py"), deploy_driver=name)
    driver = make_driver(settings, ArtifactCache(Empty(), tmp_path / "cache"))
    assert isinstance(driver, Pools)
    assert isinstance(driver._own, kind)
    await driver.close()


def test_a_controller_of_processes_loads_nothing_of_kubernetes() -> None:
    code = "import sys, quantry_deploy.drivers.table; print('lightkube' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
