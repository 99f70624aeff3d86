"""Pod Security Standards, "restricted", as kubernetes.io/docs/concepts/security/pod-security-standards lists the controls; and what this
chart asks of its own pods beyond them."""

from __future__ import annotations

from typing import Any

from factories.chart.rendering import Document, Pod

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SAFE_SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies"}
SECCOMP = {"RuntimeDefault", "Localhost"}


def problems_of(pod: Pod) -> list[str]:
    """Returns what "restricted" forbids and this pod does."""
    return [
        f"{pod.name}: {problem}" for problem in [*_of_pod(pod.spec), *(one for each in pod.containers for one in _of_container(each, pod))]
    ]


def _of_pod(spec: Document) -> list[str]:
    security = spec.get("securityContext", {})
    problems = [f"{name} is true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            problems.append(f"volume {volume['name']} is a {kinds}")
    if "seLinuxOptions" in security:
        problems.append("it chooses an SELinux context")
    problems += [f"sysctl {one['name']}" for one in security.get("sysctls", []) if one["name"] not in SAFE_SYSCTLS]
    if security.get("windowsOptions", {}).get("hostProcess"):
        problems.append("it is a process of the host")
    return problems


def _of_container(container: Document, pod: Pod) -> list[str]:
    own, of_pod = container.get("securityContext", {}), pod.spec.get("securityContext", {})

    def either(key: str) -> Any:
        return own.get(key, of_pod.get(key))

    problems: list[str] = []
    if own.get("privileged"):
        problems.append("is privileged")
    if own.get("allowPrivilegeEscalation") is not False:
        problems.append("may gain privileges")
    if own.get("capabilities", {}).get("drop") != ["ALL"]:
        problems.append("keeps capabilities")
    if not set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"}:
        problems.append("adds capabilities")
    if either("runAsNonRoot") is not True:
        problems.append("may run as root")
    if either("runAsUser") == 0:
        problems.append("runs as root")
    if (either("seccompProfile") or {}).get("type") not in SECCOMP:
        problems.append("has no seccomp profile")
    if own.get("procMount", "Default") != "Default":
        problems.append("sees more of /proc")
    if any("hostPort" in port for port in container.get("ports", [])):
        problems.append("has a port of the host")
    return [f"container {container['name']} {problem}" for problem in problems]


def habits_of(pod: Pod) -> list[str]:
    """Returns what this chart asks of every pod and this one lacks: a read-only root, /tmp, no token, bounds, no secret in a variable."""
    problems = [] if "automountServiceAccountToken" in pod.spec else ["does not say whether it has a token"]
    for container in pod.containers:
        name = container["name"]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            problems.append(f"container {name} writes its root")
        if "/tmp" not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}:
            problems.append(f"container {name} has no /tmp")
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            problems.append(f"container {name} has no bounds")
        for one in container.get("env", []):
            if "secretKeyRef" in one.get("valueFrom", {}):
                problems.append(f"container {name} has a secret in {one['name']}")
    names = [volume["name"] for volume in pod.spec.get("volumes", [])]
    mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
    claims = {one["metadata"]["name"] for one in pod.owner["spec"].get("volumeClaimTemplates", [])}
    if len(names) != len(set(names)) or not mounted <= {*names, *claims}:
        problems.append(f"mounts {mounted - {*names, *claims}} that are not there, or has volumes twice")
    return [f"{pod.name}: {problem}" for problem in problems]
