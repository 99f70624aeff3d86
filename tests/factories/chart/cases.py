"""The matrix of values: three installations, and what can be different in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from factories.chart.rendering import Rendered, Values, merged, render

DIGEST = "sha256:" + "a" * 64

DEV: Values = {"dev": {"enabled": True}}
"""Everything in one namespace, with servers of its own."""

EXTERNAL: Values = {
    "postgres": {"existingSecret": "the-database"},
    "redis": {"existingSecret": "the-broker"},
    "s3": {
        "endpoint": "s3.example.com:9000",
        "registry": {"existingSecret": "s3-all"},
        "worker": {"existingSecret": "s3-work"},
        "reader": {"existingSecret": "s3-read"},
    },
}
"""Servers that somebody else runs; as little as can be said."""

GPUS: Values = merged(
    EXTERNAL,
    {
        "queues": [
            {"name": "cpu", "memory": "16GiB"},
            {"name": "gpu", "memory": "24GiB"},
            {"name": "gpu-quad", "memory": "80GiB", "gpus": 4},
        ],
        "defaultResource": "gpu",
        "workers": {
            "gpu": {"queues": ["gpu"], "gpusPerSlot": 1, "slots": 2, "scaling": {"mode": "keda", "maxReplicas": 8}},
            "gpu-quad": {
                "queues": ["gpu-quad"],
                "gpusPerSlot": 4,
                "scaling": {"mode": "keda"},
                "work": {"type": "ephemeral", "size": "500Gi"},
            },
        },
        "captures": {"existingSecret": "capture-keys"},
        "telemetry": {"tracesEndpoint": "http://otel.monitoring:4318", "metricsTokenSecret": "metrics-token"},
        "monitoring": {"serviceMonitors": {"enabled": True}, "alerts": {"enabled": True}, "dashboards": {"enabled": True}},
        "expose": {
            "mode": "ingress",
            "ingressClassName": "nginx",
            "gateway": {"host": "api.example.com"},
            "dashboard": {"host": "models.example.com"},
        },
    },
)
"""A cluster with GPUs, KEDA, an ingress and the Prometheus operator."""

BASES: dict[str, Values] = {"dev": DEV, "external": EXTERNAL, "gpus": GPUS}

_PLACED: dict[str, Any] = {
    "nodeSelector": {"pool": "light"},
    "tolerations": [{"key": "light", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "podLabels": {"team": "models"},
    "podAnnotations": {"note": "of a person"},
    "settings": {},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraVolumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    "networkPolicy": {
        "extraIngress": [{"from": [{"podSelector": {"matchLabels": {"app": "mine"}}}]}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
    },
}
_SPREAD: dict[str, Any] = {
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]
}

DIFFERENCES: dict[str, Values] = {
    "as it is": {},
    "other names": {"nameOverride": "forge", "fullnameOverride": "forge-of-models"},
    "labels and annotations for all": {"commonLabels": {"team": "models"}, "commonAnnotations": {"owner": "models@example.com"}},
    "images of a mirror": {"image": {"registry": "mirror.example.com/hub", "tag": "9.9.9", "pullPolicy": "Always"}},
    "images without a registry": {"image": {"registry": ""}},
    "pull secrets": {"image": {"pullSecrets": [{"name": "login"}, {"name": "other"}]}},
    "digests": {part: {"image": {"digest": DIGEST}} for part in ("api", "registry", "gateway", "dashboard", "deploy", "workerDefaults")},
    "no dashboard": {"dashboard": {"enabled": False}},
    "no controller": {"deploy": {"enabled": False}},
    "neither": {"dashboard": {"enabled": False}, "deploy": {"enabled": False}},
    "keys made by hand": {"keys": {"existingSecret": "my-keys"}},
    "a certificate authority": {"caBundle": {"configMap": "our-ca"}},
    "migrated by init containers": {"migration": {"mode": "init"}},
    "imports": {
        "imports": {
            "roots": ["/models", "/more models"],
            "buckets": ["lake"],
            "existingSecret": "lake-key",
            "endpoint": "lake.example.com",
            "hubTokenSecret": "hub",
        }
    },
    "one of everything": {part: {"replicas": 1} for part in ("api", "registry", "gateway", "dashboard")},
    "many": {"api": {"replicas": 5}, "registry": {"replicas": 4}, "dashboard": {"replicas": 3}},
    "no budgets": {part: {"pdb": {"enabled": False}} for part in ("api", "registry", "gateway", "dashboard", "workerDefaults")},
    "budgets by share": {
        part: {"pdb": {"maxUnavailable": "50%"}} for part in ("api", "registry", "gateway", "dashboard", "workerDefaults")
    },
    "no autoscaler": {"gateway": {"hpa": {"enabled": False}, "replicas": 3}},
    "an eager autoscaler": {"gateway": {"hpa": {"minReplicas": 4, "maxReplicas": 40, "targetCpuPercent": 50}}},
    "slow balancers": {"gateway": {"preStopSeconds": 40, "terminationGracePeriodSeconds": 660}},
    "no wait": {"gateway": {"preStopSeconds": 0}, "api": {"preStopSeconds": 0}},
    "placed": {part: _PLACED for part in ("api", "registry", "gateway", "dashboard", "deploy", "workerDefaults")},
    "spread by racks": {part: _SPREAD for part in ("api", "registry", "gateway", "dashboard", "workerDefaults")},
    "settings": {"api": {"settings": {"QUANTRY_LEASE_S": 90, "QUANTRY_WORKERS_HAVE_DEEPSPEED": True}}},
    "proxies": {"gateway": {"trustedProxies": "10.0.0.0/8"}},
    "load balancers": {
        "gateway": {"service": {"type": "LoadBalancer", "port": 8443, "annotations": {"lb": "internal"}}},
        "dashboard": {"service": {"type": "NodePort", "port": 8080}},
    },
    "an ingress": {
        "expose": {
            "mode": "ingress",
            "gateway": {"host": "a.example.com"},
            "dashboard": {"host": "d.example.com"},
            "tls": {"secretName": "wildcard"},
        }
    },
    "an ingress without tls": {"expose": {"mode": "ingress", "gateway": {"host": "a.example.com"}, "tls": {"enabled": False}}},
    "routes of a gateway": {
        "expose": {
            "mode": "httpRoute",
            "parentRefs": [{"name": "public", "namespace": "edge"}],
            "gateway": {"host": "a.example.com"},
            "dashboard": {"host": "d.example.com"},
        }
    },
    "no policies": {"networkPolicy": {"enabled": False}},
    "narrow policies": {
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
            "metrics": [],
            "postgres": {"to": [{"ipBlock": {"cidr": "10.0.0.5/32"}}], "ports": [6432]},
            "redis": {"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]},
            "s3": {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [9000]},
            "kubernetesApi": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [6443]},
            "internet": {"enabled": False},
            "dns": {"to": [], "ports": [53, 5353]},
        }
    },
    "all metrics": {
        "monitoring": {
            "serviceMonitors": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "10s"},
            "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Quantry"}},
        },
        "telemetry": {"genAiMetrics": True, "metricsTokenSecret": "metrics-token", "tracesEndpoint": "https://otel.example.com"},
    },
    "monitors without engines": {"monitoring": {"serviceMonitors": {"enabled": True, "engines": False}}},
    "a dashboard's secret": {"dashboard": {"existingSecret": "dashboard", "secureCookie": True, "affinitySeconds": 600}},
    "pools of their own": {
        "pools": {"namespace": "quantry-pools", "cacheClaim": "models", "priorityClassName": "serving", "runtimeClassName": "nvidia"},
        "deploy": {"cache": {"existingClaim": "models", "maxBytes": 2 * 10**12}},
    },
    "pools scaled by an hpa": {
        "pools": {"scaler": "hpa", "images": {"vllm": "vllm:1", "llamaCpp": "llama:1", "sglang": "s:1", "lmdeploy": "l:1"}}
    },
    "pools scaled by keda": {
        "pools": {
            "scaler": "keda",
            "prometheusUrl": "http://prometheus.monitoring:9090",
            "overheadBytes": 4 * 1024**3,
            "nodeSelector": {"gpu": "l4"},
        },
        "deploy": {"prometheusUrl": "http://prometheus.monitoring:9090", "staticHosts": "gpu-*.example.com:8000", "engineDevice": "cpu"},
    },
    "workers by keda": {
        "workers": {"cpu": {"scaling": {"mode": "keda", "maxReplicas": 3, "pollingInterval": 5, "maxIdleSeconds": 60}, "slots": 3}}
    },
    "workers with claims": {
        "workerDefaults": {"work": {"type": "ephemeral", "storageClass": "fast", "size": "1Ti"}, "drainGraceSeconds": 3600}
    },
    "workers twice": {
        "workers": {"cpu": {"replicas": 3}, "patient": {"queues": ["cpu"], "drainGraceSeconds": 7200, "runtimeClassName": "gvisor"}}
    },
    "no workers here": {"workers": {"cpu": {"enabled": False}}},
    "another user": {"podSecurity": {"userId": 20000}},
    "people of a provider": {
        "oidc": {
            "issuer": "https://id.example.org/realms/ml",
            "clientId": "quantry",
            "existingSecret": "oidc",
            "grants": [{"value": 'ml & "admins" <all>', "project": "default", "role": "admin"}],
            "redirectUrl": "https://models.example.com/sign-in/provider/callback",
        }
    },
    "backups in a claim": {"backup": {"enabled": True, "claim": {"size": "2Ti", "storageClass": "slow"}, "verifySchedule": ""}},
    "backups in a bucket": {
        "backup": {
            "enabled": True,
            "keep": 0,
            "bucket": {"name": "backups", "endpoint": "s3.elsewhere.example.com", "existingSecret": "s3-backups"},
            "settings": {"QUANTRY_BACKUP_PARALLEL": 4},
            "nodeSelector": {"pool": "light"},
        }
    },
    "more objects": {
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-mine"}, "data": {"a": "b"}}]
    },
}

CASES: dict[str, Values] = {
    f"{base}, {name}": merged(BASES[base], difference) for base in BASES for name, difference in DIFFERENCES.items()
}
"""Every installation with every difference."""


def in_every_case(check: Callable[[Rendered], None]) -> Callable[[str], None]:
    """Makes a test of what must be so in every case: one for each installation, which names the difference that it fails with.

    A test for each case would be more than two thousand, whose keeping costs more than what they do.
    """

    def test(base: str) -> None:
        for name, difference in DIFFERENCES.items():
            try:
                check(render(merged(BASES[base], difference)))
            except BaseException as failure:
                failure.add_note(f"case: {base}, {name}")
                raise

    test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
    marked: Callable[[str], None] = pytest.mark.parametrize("base", BASES)(test)
    return marked
