"""Problems in MLflow's words: every error type has one of MLflow's codes, and the status that MLflow's own server has for it."""

from __future__ import annotations

import pytest
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS
from mlflow.protos.databricks_pb2 import ErrorCode

from quantry_core.errors import (
    Forbidden,
    ModelExists,
    NotOffered,
    QuantryError,
    Unauthorized,
    UnknownModel,
    VersionProtected,
    all_error_types,
)
from quantry_core.mlflow_errors import is_mlflow_path, mlflow_error, mlflow_status


@pytest.mark.parametrize(
    "error_type", [one for one in all_error_types() if one.__module__ == "quantry_core.errors"], ids=lambda error_type: error_type.slug
)
def test_every_error_has_a_code_that_mlflow_knows(error_type: type[QuantryError]) -> None:
    problem = error_type("words").problem("/mlflow/x")
    body, status = mlflow_error(problem), mlflow_status(problem)
    assert body.message == "words"
    assert ErrorCode.Value(body.error_code) > 0
    # MLflow has no status for FEATURE_DISABLED: 500 there, which its clients would ask again.
    assert status == ERROR_CODE_TO_HTTP_STATUS.get(body.error_code, 400) or error_type.status in {405, 408, 413, 416}


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (UnknownModel("no"), "RESOURCE_DOES_NOT_EXIST", 404),
        (ModelExists("no"), "RESOURCE_ALREADY_EXISTS", 400),
        (VersionProtected("no"), "RESOURCE_CONFLICT", 409),
        (NotOffered("no"), "FEATURE_DISABLED", 400),
        (Forbidden("no"), "PERMISSION_DENIED", 403),
        (Unauthorized("no"), "UNAUTHENTICATED", 401),
    ],
)
def test_what_clients_raise_by(error: QuantryError, code: str, status: int) -> None:
    problem = error.problem()
    assert (mlflow_error(problem).error_code, mlflow_status(problem)) == (code, status)


def test_only_the_door_speaks_so() -> None:
    assert is_mlflow_path("/mlflow/api/2.0/mlflow/registered-models/get")
    assert not any(is_mlflow_path(path) for path in (None, "/mlflow", "/api/v1/models/mlflow", "/v1/mlflow/"))
