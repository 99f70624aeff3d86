"""Which part answers a path, and which paths nobody may write."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_gateway.paths import PathRefused, Plane, plane_of, takes_long


@pytest.mark.parametrize(
    ("path", "plane"),
    [
        ("/", Plane.ROOT),
        ("/healthz", Plane.HEALTH),
        ("/livez", Plane.LIFE),
        ("/v1/models", Plane.DATA),
        ("/v1/chat/completions", Plane.DATA),
        ("/v1/", Plane.DATA),
        ("/v1/files", Plane.REGISTRY),
        ("/v1/files/dat_1/content", Plane.REGISTRY),
        ("/v1/filesx", Plane.DATA),
        ("/v1/fine_tuning/jobs", Plane.API),
        ("/v1/fine_tuning/jobs/job_1/events", Plane.API),
        ("/v1/fine-tuning/jobs", Plane.DATA),
        ("/tokenize", Plane.DATA),
        ("/detokenize", Plane.DATA),
        ("/tokenize/x", Plane.NOWHERE),
        ("/api/v1/jobs", Plane.API),
        ("/api/v1/jobs/", Plane.API),
        ("/api/v1/jobs/estimate", Plane.API),
        ("/api/v1/pipelines", Plane.API),
        ("/api/v1/schedules/preview", Plane.API),
        ("/api/v1/workers", Plane.API),
        ("/api/v1/project", Plane.API),
        ("/mlflow/api/2.0/mlflow/registered-models/search", Plane.REGISTRY),
        ("/mlflow/api/2.0/mlflow-artifacts/artifacts/models/bard/1/config.json", Plane.REGISTRY),
        ("/mlflow", Plane.NOWHERE),
        ("/mlflowx/api", Plane.NOWHERE),
        ("/metrics", Plane.NOWHERE),
        ("/api/v1/", Plane.API),
        ("/api/v1/execution/next", Plane.API),
        ("/api/v1/models", Plane.REGISTRY),
        ("/api/v1/versions/bard@3/files/model.safetensors", Plane.REGISTRY),
        ("/api/v1/versions/bard%403", Plane.REGISTRY),
        ("/api/v1/datasets/x", Plane.REGISTRY),
        ("/api/v1/seals", Plane.REGISTRY),
        ("/api/v1/seals/artifacts", Plane.REGISTRY),
        ("/api/v1/vault/runs", Plane.REGISTRY),
        ("/api/v1/jobs/job_1/artifacts", Plane.REGISTRY),
        ("/api/v1/deployments/bard/capture/dataset", Plane.REGISTRY),
        ("/api/v1/deployments/bard/capture", Plane.API),
        ("/api/v1/deployments/bard/capture/dataset/x", Plane.API),
        ("/api/v1/jobs/job_1/artifacts/results.json", Plane.REGISTRY),
        ("/api/v1/jobs/artifacts", Plane.API),
        ("/api/v1/jobs/job_1/checkpoints", Plane.API),
        ("/api/v1/jobs/job_1/checkpoints/20/files", Plane.REGISTRY),
        ("/api/v1/jobs/job_1/checkpoints/20/files/optimizer.pt", Plane.REGISTRY),
        ("/api/v1/jobs/job_1/curve", Plane.API),
        ("/api/v1/seals/checkpoints", Plane.REGISTRY),
        ("/api/v1/execution/jobs/job_1/checkpoints", Plane.API),
        ("/api/v1/jobs/job_1/events", Plane.API),
        ("/api/v1/registry/openapi.json", Plane.REGISTRY),
        ("/api/v1/internal/v1/routes", Plane.API),
        ("/api/v1", Plane.NOWHERE),
        ("/api/v2/jobs", Plane.NOWHERE),
        ("/v1", Plane.NOWHERE),
        ("/V1/models", Plane.NOWHERE),
        ("/internal/v1/routes", Plane.NOWHERE),
        ("/%69nternal/v1/routes", Plane.NOWHERE),
        ("/healthz/x", Plane.NOWHERE),
    ],
)
def test_each_path_has_one_place(path: str, plane: Plane) -> None:
    assert plane_of(path.encode()) is plane


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "internal",
        "http://host/internal",
        "//internal/v1/routes",
        "/api//v1/jobs",
        "/api/v1/jobs//",
        "/api/v1/../internal",
        "/api/v1/./jobs",
        "/api/v1/..",
        "/api/v1/%2e%2e/internal",
        "/api/v1/.%2E/internal",
        "/api/v1/..%2finternal",
        "/api/v1/x%2F..%2F..%2Finternal",
        "/api/v1/%5c..%5c",
        "/api/v1/a\\b",
        "/api/v1/%252e%252e/internal",
        "/api/v1/a%00b",
        "/api/v1/a%0d%0ab",
        "/api/v1/a%",
        "/api/v1/a%zz",
        "/api/v1/a#b",
        "/api/v1/a b",
        "/api/v1/a;b\x7f",
        "/api/v1/ä",
    ],
)
def test_paths_that_could_mean_two_things_are_refused(path: str) -> None:
    with pytest.raises(PathRefused):
        plane_of(path.encode())


@given(st.text(alphabet="/.%25eEfFcC\\iapnv1", max_size=30).map(lambda tail: "/api/v1/" + tail))
def test_what_is_forwarded_decodes_to_a_path_below_its_prefix(path: str) -> None:
    try:
        plane = plane_of(path.encode())
    except PathRefused:
        return
    assert plane in {Plane.API, Plane.REGISTRY}
    decoded = unquote(path)
    assert decoded.startswith("/api/v1/")
    assert not {".", ".."} & set(decoded.split("/"))
    assert "//" not in decoded
    assert decoded.count("/") == path.count("/")


@pytest.mark.parametrize(
    ("method", "path", "is_long"),
    [
        ("POST", "/api/v1/seals", True),
        ("POST", "/api/v1/seals/artifacts", True),
        ("POST", "/api/v1/datasets/x/derive", True),
        ("POST", "/api/v1/deployments/bard/capture/dataset", True),
        ("PUT", "/api/v1/deployments/bard/capture", False),
        ("PUT", "/api/v1/datasets/x", True),
        ("PUT", "/api/v1/uploads/upl_1/files/a/b.safetensors", True),
        ("PUT", "/api/v1/%64atasets/x", True),
        ("POST", "/v1/files", True),
        ("GET", "/v1/files", False),
        ("DELETE", "/v1/files/dat_1", False),
        ("POST", "/v1/fine_tuning/jobs", False),
        ("GET", "/api/v1/datasets/x", False),
        ("DELETE", "/api/v1/datasets/x", False),
        ("GET", "/api/v1/uploads/upl_1/files/a", False),
        ("POST", "/api/v1/uploads", False),
        ("POST", "/api/v1/vault/verify", False),
        ("GET", "/api/v1/models", False),
        ("POST", "/api/v1/versions/ver_1/restore", False),
    ],
)
def test_only_what_reads_or_writes_files_may_take_long(method: str, path: str, is_long: bool) -> None:
    assert takes_long(method, path.encode()) is is_long
