"""Names and labels of a release's objects. Everything of a release has the release's name."""

from __future__ import annotations

FIELD_MANAGER = "quantry-deploy"
ENGINE_CONTAINER = "engine"
VERIFY_CONTAINER = "verify"
PORT = 8000

OWNER_LABEL = "quantry.dev/owner"
RELEASE_LABEL = "quantry.dev/release"
REPLICA_PREFIX = "replica.quantry.dev/"
"""Annotations of the StatefulSet: the id of the replica that each ordinal is."""


def object_name(release_id: str) -> str:
    """Returns the name of a release's objects: its id with what no DNS label may have replaced."""
    return release_id.replace("_", "-").lower()


def pod_name(release_id: str, ordinal: int) -> str:
    """Returns the name of the pod at a place of a release."""
    return f"{object_name(release_id)}-{ordinal}"


def pod_url(release_id: str, ordinal: int, namespace: str, cluster_domain: str) -> str:
    """Returns where a pod answers, before it is there and after it was replaced: a StatefulSet's pods keep their names."""
    return f"http://{pod_name(release_id, ordinal)}.{object_name(release_id)}.{namespace}.{cluster_domain}:{PORT}"


def labels(owner: str, release_id: str) -> dict[str, str]:
    """Returns the labels of a release's objects."""
    return {
        "app.kubernetes.io/name": "quantry-engine",
        "app.kubernetes.io/managed-by": "quantry",
        OWNER_LABEL: owner,
        RELEASE_LABEL: object_name(release_id),
    }
