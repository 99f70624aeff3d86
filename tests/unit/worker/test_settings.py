from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from quantry_blobs.settings import BlobSettings
from quantry_core.celery_settings import worker_settings
from quantry_core.execution import WAKE_TASK
from quantry_core.jobs import CPU_QUEUE, CalibrationSpec, ImportSpec, JobSpec, QuantizeSpec
from quantry_core.methods import Environment
from quantry_core.workers import Device
from quantry_worker.app import create_app, devices_of
from quantry_worker.drain import Drain
from quantry_worker.environment import child_environment
from quantry_worker.hello import describe
from quantry_worker.settings import WorkerSettings, check_slots
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
        "GPTQMODEL_PYTHON": "/gptqmodel/bin/python",
        "IMPORT_ROOTS": "/models:/more models",
    }.items():
        monkeypatch.setenv(f"QUANTRY_{name}", value)
    return WorkerSettings()


def test_settings_come_from_the_environment(settings: WorkerSettings) -> None:
    assert settings.worker_queues == [CPU_QUEUE]
    assert settings.import_roots == [Path("/models"), Path("/more models")]
    assert settings.python_of(Environment.ML) == Path("/ml/bin/python")
    assert settings.num_threads >= 1
    assert "the-token" not in repr(settings)
    assert "the-password" not in repr(settings)


def test_an_unknown_queue_is_refused(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", "cpu,party")
    with pytest.raises(ValidationError, match="cpu"):
        WorkerSettings()


def test_an_engine_comes_with_the_script_that_starts_it(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_ENGINE_PYTHON", "/engine/bin/python")
    with pytest.raises(ValidationError, match="set QUANTRY_ENGINE_PYTHON and QUANTRY_ENGINE_SCRIPT, or neither"):
        WorkerSettings()
    monkeypatch.setenv("QUANTRY_ENGINE_SCRIPT", "/serve.py")
    assert WorkerSettings().engine_script == Path("/serve.py")


@pytest.mark.parametrize("environment", Environment)
def test_every_environment_has_its_interpreter(settings: WorkerSettings, environment: Environment) -> None:
    assert settings.python_of(environment).is_absolute()


def test_an_environment_that_is_not_set_is_not_there(settings: WorkerSettings) -> None:
    without = settings.model_copy(update={"gptqmodel_python": None})
    assert without.pythons == {Environment.ML: Path("/ml/bin/python")}


def test_celery_has_the_settings_and_the_task(settings: WorkerSettings, tmp_path: Path) -> None:
    blob_settings = BlobSettings(endpoint="127.0.0.1:1", access_key="a", secret_key=SecretStr("b"))
    hello = describe(settings, [])
    app = create_app(settings, blob_settings, WorkDir(tmp_path), Drain(), worker_id="wrk_" + "0" * 32, hello=hello)
    assert WAKE_TASK in app.tasks
    expected = worker_settings(settings.broker_url.get_secret_value(), queues=["cpu"], num_slots=2, drain_s=28.0)
    assert {name: app.conf[name] for name in expected} == expected


def test_a_worker_needs_a_queue(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", ",")
    with pytest.raises(ValidationError, match="worker_queues"):
        WorkerSettings()


@pytest.mark.parametrize(("queues", "gpus"), [("gpu", ""), ("cpu,gpu-80g", "0"), ("gpu", "0,1,2")])
def test_every_slot_of_a_gpu_queue_has_its_gpus(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, queues: str, gpus: str) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", queues)
    monkeypatch.setenv("QUANTRY_WORKER_GPUS", gpus)
    with pytest.raises(ValidationError, match="every slot of a worker of gpu"):
        WorkerSettings()


def test_gpus_that_are_looked_for_are_counted_when_they_are_found(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", "gpu")
    monkeypatch.setenv("QUANTRY_WORKER_GPUS", "auto")
    found = WorkerSettings()
    check_slots(found, 2)
    with pytest.raises(ValueError, match="names 1"):
        check_slots(found, 1)


def test_gpus_in_the_order_of_the_setting_belong_to_the_slots(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", "gpu,cpu")
    monkeypatch.setenv("QUANTRY_WORKER_GPUS", "1, GPU-b")
    devices = [Device(id=name) for name in WorkerSettings().worker_gpus]
    assert [devices_of(index, devices, 1) for index in range(3)] == [[Device(id="1")], [Device(id="GPU-b")], []]


def test_a_slot_can_have_several_gpus(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_WORKER_QUEUES", "gpu-pair")
    monkeypatch.setenv("QUANTRY_WORKER_GPUS", "0,1,2,3")
    monkeypatch.setenv("QUANTRY_WORKER_GPUS_PER_SLOT", "2")
    found = WorkerSettings()
    devices = [Device(id=name) for name in found.worker_gpus]
    slots = [devices_of(index, devices, found.worker_gpus_per_slot) for index in range(3)]
    assert [[device.id for device in slot] for slot in slots] == [["0", "1"], ["2", "3"], []]
    given = child_environment(QUANTIZE, parent={}, directory=Path("/srv/worker"), num_threads=2, devices=slots[1])
    assert given["CUDA_VISIBLE_DEVICES"] == "2,3"
    with pytest.raises(ValueError, match="GPUS_PER_SLOT 2, and QUANTRY_WORKER_GPUS names 3"):
        check_slots(found, 3)


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


@pytest.mark.parametrize(
    "spec", [QUANTIZE, ImportSpec(model="bard", source="/models/bard"), ImportSpec(model="bard", source="s3:models/a")]
)
def test_the_hubs_token_reaches_an_import_from_the_hub_alone(spec: JobSpec) -> None:
    token = SecretStr("hf_secret")
    hub = ImportSpec(model="bard", source="hf:owner/name")
    # As a proxy, whose address may hold a password.
    given = child_environment(
        hub, parent={"HTTPS_PROXY": "http://a:b@proxy"}, directory=Path("/srv/worker"), num_threads=2, hub_token=token
    )
    assert (given["HF_TOKEN"], given["HTTPS_PROXY"]) == ("hf_secret", "http://a:b@proxy")
    assert "HF_TOKEN" not in child_environment(spec, parent={}, directory=Path("/srv/worker"), num_threads=2, hub_token=token)
    assert "hf_secret" not in hub.model_dump_json()


def test_the_hubs_token_has_two_names_and_is_not_shown(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.hf_token is None
    for name in ("HF_TOKEN", "QUANTRY_HF_TOKEN"):
        monkeypatch.setenv(name, f"secret of {name}")
        found = WorkerSettings()
        assert found.hf_token is not None
        assert found.hf_token.get_secret_value() == f"secret of {name}"
        assert "secret of" not in repr(found)


def test_the_childs_environment_is_a_short_list() -> None:
    parent = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
        "QUANTRY_STATE_DIR": "/state",
        "KERNELS_CACHE": "/kernels",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
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
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "QUANTRY_STATE_DIR": "/state",
        "KERNELS_CACHE": "/kernels",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
