"""A service's registry of metrics: what its process is and takes, and what the service itself adds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics

VERSION = "0.1.0"


def service_registry(service: str) -> CollectorRegistry:
    """Returns a registry of its own, so that two services in one process count apart, with the figures of the process in it:
    ``process_resident_memory_bytes``, ``process_cpu_seconds_total``, ``process_open_fds`` and so on, and ``quantry_build_info``."""
    # When each series began is as many series again, and Prometheus has no use for them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Info("quantry_build", "Which service answers, and its version.", registry=registry).info({"service": service, "version": VERSION})
    return registry
