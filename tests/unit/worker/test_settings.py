from __future__ import annotations

from pathlib import Path

import pytest
from celery.app.defaults import NAMESPACES, flatten
from pydantic import SecretStr, ValidationError

from quantry_blobs.settings import BlobSettings
from quantry_core.execution import WAKE_TASK
from quantry_core.jobs import CalibrationSpec, ImportSpec, JobSpec, QuantizeSpec, Queue
from quantry_core.methods import Environment
from quantry_worker.app import celery_settings, create_app
from quantry_worker.drain import Drain
from quantry_worker.environment import child_environment
from quantry_worker.settings import WorkerSettings
from quantry_worker.work_dir import WorkDir

QUANTIZE = QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"]))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerSettings:
    for name, value in {
        "CONTROL_URL": "http://127.0.0.1:8000",
        "WORKER_TOKEN": "the-token",
        "BROKER_URL": "redis://:the-password@127.0.0.1:6379/0",
        "WORK_DIR": str(tmp_path),
        "WORKER_QUEUES": "cpu",
        "WORKER_SLOTS": "2",
        "ML_PYTHON": "/ml/bin/python",
        "IMPORT_ROOTS": "/models:/more models",
    }.items():
        monkeypatch.setenv(f"QUANTRY_{name}", value)
    return WorkerSettings()


def test_settings_come_from_the_environment(settings: WorkerSettings) -> None:
    assert settings.worker_queues == [Queue.CPU]
    assert settings.import_roots == [Path("/models"), Path("/more models")]
    assert settings.python_of(Environment.ML) == Path("/ml/bin/python")
    assert settings.num_threads >= 1
    assert "the-token" not in repr(settings)
    assert "the-password" not in repr(settings)


def test_an_unknown_queue_is_refused(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", "cpu,party")
    with pytest.raises(ValidationError, match="cpu"):
        WorkerSettings()


@pytest.mark.parametrize("environment", Environment)
def test_every_environment_has_its_interpreter(settings: WorkerSettings, environment: Environment) -> None:
    assert settings.python_of(environment).is_absolute()


def test_celery_knows_every_setting(settings: WorkerSettings) -> None:
    known = {entry[0] for entry in flatten(NAMESPACES)}
    assert set(celery_settings(settings)) <= known


def test_celery_has_the_settings_and_the_task(settings: WorkerSettings, tmp_path: Path) -> None:
    blob_settings = BlobSettings(endpoint="127.0.0.1:1", access_key="a", secret_key=SecretStr("b"))
    app = create_app(settings, blob_settings, WorkDir(tmp_path), Drain())
    assert WAKE_TASK in app.tasks
    for name, value in celery_settings(settings).items():
        assert app.conf[name] == value
    assert app.conf.task_acks_late is False
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.accept_content == ["json"]


@pytest.mark.parametrize(
    ("spec", "is_offline"),
    [
        (QUANTIZE, True),
        (ImportSpec(model="bard", source="/models/bard"), True),
        (ImportSpec(model="bard", source="hf:owner/name"), False),
    ],
)
def test_only_an_import_from_the_hub_may_go_out(spec: JobSpec, is_offline: bool) -> None:
    environment = child_environment(spec, parent={}, directory=Path("/srv/worker"), num_threads=2)
    assert (environment.get("HF_HUB_OFFLINE") == "1") is is_offline


def test_the_childs_environment_is_a_short_list() -> None:
    parent = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
        "QUANTRY_STATE_DIR": "/state",
        "QUANTRY_WORKER_TOKEN": "secret",
        "QUANTRY_S3_SECRET_KEY": "secret",
        "HF_TOKEN": "secret",
        "PYTHONPATH": "/elsewhere",
        "LD_PRELOAD": "/elsewhere.so",
    }
    assert child_environment(QUANTIZE, parent=parent, directory=Path("/srv/worker"), num_threads=2) == {
        "PATH": "/bin",
        "HOME": "/srv/worker",
        "LANG": "C.UTF-8",
        "TMPDIR": "/srv/worker/tmp",
        "HF_HOME": "/srv/worker/huggingface",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
        "QUANTRY_STATE_DIR": "/state",
    }
