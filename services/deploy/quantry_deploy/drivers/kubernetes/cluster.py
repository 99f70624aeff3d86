"""The few things that are asked of a cluster's API server. What is not there is None; what cannot be asked raises Unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import httpx2
from lightkube import ApiError, AsyncClient, codecs
from lightkube.core.resource import NamespacedResource
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import ConfigMap, Pod, Service
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.types import CascadeType, PatchType

from quantry_core.errors import Unavailable
from quantry_deploy.drivers.kubernetes.names import ENGINE_CONTAINER, FIELD_MANAGER, OWNER_LABEL
from quantry_deploy.drivers.logs import TAIL_LINES

NOT_FOUND = 404

T = TypeVar("T")

ScaledObject = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")

SCALERS: tuple[type[NamespacedResource], ...] = (ScaledObject, HorizontalPodAutoscaler)
OF_A_RELEASE: tuple[type[NamespacedResource], ...] = (*SCALERS, StatefulSet, PodDisruptionBudget, Service, ConfigMap)


class Cluster:
    """One namespace of a cluster, by the credentials of the pod this runs in, or of a kubeconfig."""

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def apply(self, document: dict[str, Any]) -> None:
        """Applies an object on the server's side: what others wrote into it stays, what this controller wrote before and does not any
        more goes."""
        async with _asking():
            await self._client.apply(codecs.from_dict(document), field_manager=FIELD_MANAGER, force=True)

    async def stateful_set(self, name: str) -> StatefulSet | None:
        """Returns a release's StatefulSet."""
        return await self._found(self._client.get(StatefulSet, name, namespace=self._namespace))

    async def stateful_sets(self, owner: str) -> list[StatefulSet]:
        """Returns those of one controller."""
        async with _asking():
            return [one async for one in self._client.list(StatefulSet, namespace=self._namespace, labels={OWNER_LABEL: owner})]

    async def annotate(self, name: str, annotations: dict[str, str]) -> None:
        """Adds annotations to a StatefulSet."""
        async with _asking():
            await self._client.patch(
                StatefulSet, name, {"metadata": {"annotations": annotations}}, namespace=self._namespace, patch_type=PatchType.MERGE
            )

    async def scale(self, name: str, num_pods: int) -> None:
        """Sets how many pods a StatefulSet has."""
        async with _asking():
            wanted = {"spec": {"replicas": num_pods}}
            await self._client.patch(StatefulSet.Scale, name, wanted, namespace=self._namespace, patch_type=PatchType.MERGE)

    async def pod(self, name: str) -> Pod | None:
        """Returns a pod."""
        return await self._found(self._client.get(Pod, name, namespace=self._namespace))

    async def pods(self, owner: str) -> list[Pod]:
        """Returns every engine's pod of one controller."""
        async with _asking():
            return [one async for one in self._client.list(Pod, namespace=self._namespace, labels={OWNER_LABEL: owner})]

    async def remove_pod(self, name: str) -> None:
        """Removes a pod without giving its engine any time, also where its node has gone."""
        await self._found(self._client.delete(Pod, name, namespace=self._namespace, grace_period=0))

    async def remove_release(self, name: str) -> None:
        """Removes every object of a release."""
        for kind in OF_A_RELEASE:
            await self._found(self._client.delete(kind, name, namespace=self._namespace, cascade=CascadeType.BACKGROUND))

    async def remove_scalers(self, name: str) -> None:
        """Removes what scales a release: its pods are the controller's alone now."""
        for kind in SCALERS:
            await self._found(self._client.delete(kind, name, namespace=self._namespace))

    async def log(self, pod: str) -> list[str]:
        """Returns the last lines that a pod's engine wrote; none where it has not begun to, or nobody tells."""
        # A pod whose engine has not begun has no log to be had: the server refuses.
        with suppress(Unavailable):
            async with _asking():
                lines = self._client.log(pod, namespace=self._namespace, container=ENGINE_CONTAINER, tail_lines=TAIL_LINES, newlines=False)
                return [line async for line in lines]
        return []

    async def close(self) -> None:
        await self._client.aclose()

    async def _found(self, asked: Awaitable[T]) -> T | None:
        """Returns what was asked for; None if there is no such object, or no such kind of object in this cluster."""
        async with _asking():
            try:
                return await asked
            except ApiError as error:
                if error.status.code == NOT_FOUND:
                    return None
                raise


@asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    """Turns every failure of a request into Unavailable: the next pass asks again."""
    try:
        yield
    except ApiError as error:
        raise Unavailable(f"the cluster refused: {error.status.message}") from error
    except httpx2.HTTPError as error:
        raise Unavailable(f"the cluster's API server did not answer: {error!r}") from error
