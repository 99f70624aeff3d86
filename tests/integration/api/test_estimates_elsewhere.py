"""Preflight where the platform is set up otherwise: GPUs, an engine on a CPU, queues by memory, a store that is away."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from factories.checkpoints import write_checkpoint
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import Resource, parse_queues
from quantry_core.keys import Role
from quantry_core.methods import DeviceKind

from .conftest import Api, slug
from .estimating import contents, estimate, make_master, quantize


@pytest.fixture
def api_blobs(blob_settings: BlobSettings) -> BlobSettings:
    store = MinioStore(blob_settings)
    for bucket in (blob_settings.vault_bucket, blob_settings.staging_bucket):
        store.ensure_bucket(bucket)
    return blob_settings


class TestAnEngineOnACpu:
    """Where deployments run vLLM on a CPU."""

    @pytest.fixture
    def api_settings(self, api_settings: ApiSettings) -> ApiSettings:
        return api_settings.model_copy(update={"engine_device": DeviceKind.CPU})

    @pytest.mark.parametrize(
        ("shrink", "words"),
        [
            ({"method": "gguf", "scheme": "Q8_0", "calibration": None}, "cannot load Q8_0 in format gguf"),
            ({"method": "bitsandbytes", "calibration": None}, "cannot load NF4 in format bitsandbytes"),
            ({"method": "gptq", "overrides": [{"modules": ["*.up_proj"], "scheme": "W2A16"}]}, "cannot load W2A16"),
        ],
    )
    async def test_what_it_cannot_load_is_refused_before_a_pipeline_makes_it(
        self, api: Api, api_blobs: BlobSettings, shrink: dict[str, Any], words: str
    ) -> None:
        await make_master(api, api_blobs)
        await api.make_dataset()
        deploy = {"type": "deploy", "deployment": "bard", "version": "output:shrink"}
        steps = {"shrink": {"spec": quantize(**shrink)}, "serve": {"spec": deploy}}
        refused = await api[Role.OPERATOR].post("/api/v1/pipelines", json={"name": "serve", "steps": steps})
        assert (refused.status_code, slug(refused)) == (422, "not-servable"), refused.text
        assert words in refused.json()["detail"]
        assert refused.json()["errors"][0]["field"] == "steps.serve.spec.version"
        # Of a job that was submitted before, its spec says the same.
        job = await api.submit(**quantize(**shrink))
        late = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": deploy | {"version": f"output:{job['id']}"}})
        assert (late.status_code, slug(late)) == (422, "not-servable"), late.text
        servers = deploy | {"version": f"output:{job['id']}", "servers": ["http://10.0.0.1:8000"]}
        elsewhere = await api[Role.OPERATOR].post("/api/v1/rollouts", json=servers)
        assert elsewhere.status_code == (202 if "W2A16" in words else 422), "servers of somebody else may have GPUs"
        steps["shrink"] = {"spec": quantize()}
        made = await api[Role.OPERATOR].post("/api/v1/pipelines", json={"name": "serve", "steps": steps})
        assert made.status_code == 201, made.text

    async def test_what_another_engine_loads_is_served_by_that_one(self, api: Api, api_blobs: BlobSettings) -> None:
        await make_master(api, api_blobs)
        job = await api.submit(**quantize(method="gguf", scheme="Q8_0", calibration=None))
        deploy = {"type": "deploy", "deployment": "bard", "version": f"output:{job['id']}"}
        for engine, status in (("llama.cpp", 201), ("vllm", 422), ("sglang", 422)):
            answer = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": deploy | {"engine": {"engine": engine}}})
            assert (engine, answer.status_code) == (engine, status), answer.text
        master = await api[Role.OPERATOR].post(
            "/api/v1/jobs", json={"spec": deploy | {"version": "bard", "engine": {"engine": "llama.cpp"}}}
        )
        assert (master.status_code, slug(master)) == (422, "not-servable")


class TestOnGpus:
    """Where jobs go to GPUs unless they say otherwise, what leaves one idle goes to a CPU."""

    @pytest.fixture
    def api_settings(self, api_settings: ApiSettings) -> ApiSettings:
        return api_settings.model_copy(update={"default_resource": Resource.GPU})

    async def test_what_runs_on_cpus_alone_holds_no_gpu(self, api: Api, api_blobs: BlobSettings) -> None:
        await make_master(api, api_blobs)
        await api.make_dataset()
        assert (await estimate(api, quantize()))["queue"] == "gpu"
        rounded = quantize(method="rtn", calibration=None)
        found = await estimate(api, rounded)
        assert (found["queue"], found["key"], found["peak_vram_bytes"]) == ("cpu", "quantize/rtn/cpu", None)
        assert (await api.submit(**rounded))["queue"] == "cpu"
        refused = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": rounded, "queue": "gpu"})
        assert (refused.status_code, slug(refused)) == (422, "invalid-input")
        assert "scheme W4A16 of method rtn runs on cpu only" in refused.json()["detail"]


class TestClassesByMemory:
    """Queues with bounds: jobs go to the smallest that they fit in."""

    @pytest.fixture
    def api_settings(self, api_settings: ApiSettings) -> ApiSettings:
        return api_settings.model_copy(update={"queues": parse_queues("cpu=256MiB,cpu-large=2GiB,gpu=1MiB")})

    async def test_a_job_goes_where_it_fits(self, api: Api) -> None:
        await api.make_dataset()
        source = write_checkpoint(api.roots / "bard", contents())
        imported = await api.submit(type="import", model="bard", source=str(source))
        assert imported["queue"] == "cpu"
        quantized = await api.submit(**quantize(base=f"output:{imported['id']}"))
        assert (quantized["queue"], quantized["estimate"]["queue"]) == ("cpu-large", "cpu-large")

    async def test_a_job_that_fits_nowhere_is_refused_unless_it_names_a_queue(self, api: Api) -> None:
        await api.make_dataset()
        source = write_checkpoint(api.roots / "bard", contents())
        imported = await api.submit(type="import", model="bard", source=str(source))
        spec = quantize(base=f"output:{imported['id']}")
        refused = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec, "resource": "gpu"})
        assert (refused.status_code, slug(refused)) == (422, "invalid-input")
        assert "name a queue" in refused.json()["detail"]
        told = await estimate(api, spec, resource="gpu")
        assert told["queue"] is None
        assert "name a queue" in told["notes"][-1]
        assert (await estimate(api, spec, queue="gpu"))["queue"] == "gpu"

    async def test_a_queue_that_is_not_there_is_refused(self, api: Api) -> None:
        source = write_checkpoint(api.roots / "bard", contents())
        for path in ("/api/v1/jobs/estimate", "/api/v1/jobs"):
            body = {"spec": {"type": "import", "model": "bard", "source": str(source)}, "queue": "cpu-huge"}
            refused = await api[Role.OPERATOR].post(path, json=body)
            assert (refused.status_code, slug(refused)) == (422, "invalid-input")
            assert "cpu-large" in refused.json()["detail"]

    async def test_queue_and_resource_must_agree(self, api: Api, api_blobs: BlobSettings) -> None:
        await make_master(api, api_blobs)
        await api.make_dataset()
        body = {"spec": quantize(), "queue": "cpu-large", "resource": "gpu"}
        assert slug(await api[Role.OPERATOR].post("/api/v1/jobs", json=body)) == "invalid-input"


class TestStoreAway:
    """An object store that does not answer: nothing is known of versions, and every job is taken."""

    @pytest.fixture
    def api_blobs(self) -> BlobSettings:
        # Port 1 of this host refuses connections.
        return BlobSettings(endpoint="127.0.0.1:1", access_key="key", secret_key=SecretStr("secret"))

    async def test_a_job_is_taken_all_the_same(self, api: Api) -> None:
        await make_master(api, None)
        await api.make_dataset()
        job = await api.submit(**quantize())
        assert (job["queue"], job["status"]) == ("cpu", "queued")
        assert job["estimate"]["result_bytes"] is None
        assert "object store" in job["estimate"]["notes"][0]
        again = await estimate(api, quantize())
        assert "a moment ago" in again["notes"][0]
