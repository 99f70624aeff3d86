"""Bad input through the public door: a 4xx problem with a stable type and a sentence that helps, and nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from e2e.conftest import Platform
from factories.checkpoints import CONFIG, master_contents, safetensors_bytes, write_checkpoint
from quantry_core.jobs import ImportSpec, JobReason, JobStatus

QUANTIZE: dict[str, Any] = {"type": "quantize", "base": "bard-6m", "calibration": {"datasets": ["kjv.calibration"]}}


def post_job(platform: Platform, spec: dict[str, Any], key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {platform.api_key if key is None else key}"} if key != "" else {}
    return httpx.post(f"{platform.url}/api/v1/jobs", json={"spec": spec}, headers=headers)


def assert_problem(answer: httpx.Response, status: int, slug: str, *words: str) -> None:
    """Checks an RFC 9457 problem: status, content type, stable type, and words in its detail or field errors."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["type"] == f"urn:quantry:problem:{slug}"
    told = problem["detail"] + " ".join(error["message"] for error in problem["errors"])
    for word in words:
        assert word in told


BAD_SPECS = {
    "unknown job type": ({"type": "bake"}, 422, "unknown-job-type", "quantize"),
    "unknown method": (
        {**QUANTIZE, "method": "magic"},
        422,
        "unknown-method",
        "gptq",
    ),
    "unknown scheme": (
        {**QUANTIZE, "scheme": "W1A1"},
        422,
        "unknown-scheme",
        "W4A16",
    ),
    "unknown model": ({**QUANTIZE, "base": "nobody"}, 404, "unknown-model", "nobody"),
    "unknown version": ({"type": "evaluate", "version": "bard-6m@999", "corpora": ["kjv.test"]}, 404, "unknown-version", "999"),
    "unknown dataset": ({"type": "evaluate", "version": "bard-6m@1", "corpora": ["nothing"]}, 404, "unknown-dataset", "nothing"),
    "outside the roots": ({"type": "import", "model": "x", "source": "/etc"}, 422, "source-refused", "/etc"),
    "dots out of the root": (
        {"type": "import", "model": "x", "source": "ROOT/../../../../etc"},
        422,
        "source-refused",
        "lies outside",
    ),
    "name with a slash": ({"type": "import", "model": "a/b", "source": "/x"}, 422, "invalid-name", "a/b"),
    "name with dots": ({"type": "import", "model": "a..b", "source": "/x"}, 422, "invalid-name", ".."),
    "name with NUL": ({"type": "import", "model": "a\x00b", "source": "/x"}, 422, "invalid-name", "letters"),
    "name too long": ({"type": "import", "model": "a" * 300, "source": "/x"}, 422, "invalid-name", "300"),
    "unknown field": ({"type": "import", "model": "x", "source": "/x", "force": True}, 422, "invalid-input", "Extra"),
    "deploy of a missing version": ({"type": "deploy", "deployment": "x", "version": "nobody@1"}, 404, "unknown-model", "nobody"),
}


@pytest.mark.usefixtures("master")
@pytest.mark.parametrize("name", BAD_SPECS)
def test_a_bad_spec_is_refused_with_its_reason(platform: Platform, name: str) -> None:
    spec, status, slug, *words = BAD_SPECS[name]
    spec = {field: value.replace("ROOT", str(platform.state_dir)) if isinstance(value, str) else value for field, value in spec.items()}
    num_jobs = len(platform.client.jobs.list(limit=100).data)
    assert_problem(post_job(platform, spec), status, slug, *words)
    assert len(platform.client.jobs.list(limit=100).data) == num_jobs


BAD_SOURCES: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "no config.json": (lambda: master_contents(config__json=None), "config.json"),
    "pickle": (lambda: master_contents(pytorch_model__bin=b"\x80\x04"), "pytorch_model.bin"),
    "python": (lambda: master_contents(modeling__py=b"import os"), "modeling.py"),
    "auto_map": (lambda: master_contents(config__json=json.dumps({**CONFIG, "auto_map": {}}).encode()), "auto_map"),
    "cut short": (lambda: master_contents(model__safetensors=safetensors_bytes({"a": ("F16", (4, 4))})[:-3]), "model.safetensors"),
    "header lies": (lambda: master_contents(model__safetensors=(10**15).to_bytes(8, "little") + b"{}"), "header claims"),
    "float32": (lambda: master_contents(model__safetensors=safetensors_bytes({"a": ("F32", (4, 4))})), "16-bit"),
    "quantized already": (lambda: master_contents(config__json=json.dumps({**CONFIG, "quantization_config": {}}).encode()), "quantized"),
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_bad_source_is_refused_with_its_reason(platform: Platform, name: str) -> None:
    contents, word = BAD_SOURCES[name]
    # The stack may import from the folder its own directory lies in.
    source = write_checkpoint(platform.state_dir.parent / "sources" / name.replace(" ", "-"), contents())
    answer = post_job(platform, {"type": "import", "model": "refused", "source": str(source)})
    assert_problem(answer, 422, "source-refused", word)
    missing = httpx.get(f"{platform.url}/api/v1/models/refused", headers={"Authorization": f"Bearer {platform.api_key}"})
    assert_problem(missing, 404, "unknown-model")


def test_a_link_out_of_the_roots_is_refused(platform: Platform) -> None:
    link = platform.state_dir.parent / "sources" / "link"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/etc")
    assert_problem(post_job(platform, {"type": "import", "model": "x", "source": str(link)}), 422, "source-refused", "lies outside")


@pytest.mark.parametrize("key", ["", "qtr_wrong", "not-a-key"])
def test_no_or_a_wrong_key_is_refused(platform: Platform, key: str) -> None:
    assert_problem(post_job(platform, {"type": "import", "model": "x", "source": "/x"}, key), 401, "unauthorized")


def test_a_master_that_others_were_made_from_cannot_be_deleted(platform: Platform, master: Any, quantized: Any) -> None:
    assert quantized.state == "ready"
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    answer = httpx.delete(f"{platform.url}/api/v1/versions/{master.id}", headers=headers)
    assert_problem(answer, 409, "version-protected", "other versions were made from it")
    assert platform.client.versions.get(master.id).state == "ready"


def test_a_job_that_fails_while_running_says_why_and_keeps_its_log(platform: Platform) -> None:
    """The checkpoint passes every rule of its headers; transformers then cannot build a model from it."""
    source = write_checkpoint(platform.state_dir.parent / "sources" / "hollow", master_contents())
    imported = platform.succeed(ImportSpec(model="hollow", source=str(source)))
    version = platform.version_of(imported)
    spec = {"type": "evaluate", "version": version.id, "corpora": ["kjv.test"]}
    submitted = post_job(platform, spec)
    assert submitted.status_code == 201
    job = platform.client.jobs.wait(submitted.json()["id"], 120, poll_s=0.3)
    assert job.status is JobStatus.FAILED
    assert job.reason in {JobReason.INVALID_INPUT, JobReason.INTERNAL}
    assert job.message
    assert platform.client.jobs.log(job.id).strip()


def test_a_hub_source_without_a_network_says_so(platform: Platform) -> None:
    """The stack's model hub is an address where nobody listens."""
    job = platform.run(ImportSpec(model="from-the-hub", source="hf:quantry/no-such-model"))
    assert (job.status, job.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert job.message is not None
    assert "hub cannot be reached" in job.message
