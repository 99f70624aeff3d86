"""The drivers by name. What a driver needs is imported and asked for only where it is chosen."""

from __future__ import annotations

from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.drivers.pools import Pools
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.drivers.protocol import PoolDriver
from quantry_deploy.drivers.static import AllowedHosts, StaticDriver
from quantry_deploy.settings import DeploySettings, DriverName


def make_driver(settings: DeploySettings, cache: ArtifactCache) -> PoolDriver:
    """Returns the driver of this installation, with servers of somebody else beside it. Call it in the loop that it lives in."""
    static = StaticDriver(EngineProbe(), AllowedHosts(settings.static_hosts))
    match settings.deploy_driver:
        case DriverName.PROCESS:
            return Pools(ProcessDriver(settings, cache, EngineProbe()), static)
        case DriverName.KUBERNETES:
            return Pools(_kubernetes(settings, cache), static)


def _kubernetes(settings: DeploySettings, cache: ArtifactCache) -> PoolDriver:
    """Asks the cluster by the credentials of the pod this runs in, or of the kubeconfig that KUBECONFIG names."""
    from lightkube import AsyncClient  # noqa: PLC0415  half a second, and no use anywhere else

    from quantry_deploy.drivers.kubernetes.cluster import Cluster  # noqa: PLC0415
    from quantry_deploy.drivers.kubernetes.driver import KubernetesDriver  # noqa: PLC0415
    from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings  # noqa: PLC0415

    kubernetes = KubernetesSettings()
    cluster = Cluster(AsyncClient(namespace=kubernetes.namespace), kubernetes.namespace)
    return KubernetesDriver(settings, kubernetes, cluster, cache, EngineProbe())
