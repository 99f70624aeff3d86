"""Everything that must be refused at submission: status, stable type, a sentence, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes, write_checkpoint
from quantry_core.keys import Role

from .conftest import Api, slug

CALIBRATION = {"datasets": ["shakespeare"]}


async def submit(api: Api, spec: dict[str, Any]) -> httpx.Response:
    return await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})


async def nothing_was_written(api: Api, num_audit: int) -> bool:
    jobs = (await api[Role.ADMIN].get("/api/v1/jobs")).json()["data"]
    audit = (await api[Role.ADMIN].get("/api/v1/audit?limit=100")).json()["data"]
    return jobs == [] and len(audit) == num_audit


async def count_audit(api: Api) -> int:
    return len((await api[Role.ADMIN].get("/api/v1/audit?limit=100")).json()["data"])


UNKNOWN: list[tuple[dict[str, Any], int, str]] = [
    ({"type": "distill"}, 422, "unknown-job-type"),
    ({"type": "quantize", "base": "bard", "method": "magic", "calibration": CALIBRATION}, 422, "unknown-method"),
    ({"type": "quantize", "base": "bard", "scheme": "W1A1", "calibration": CALIBRATION}, 422, "unknown-scheme"),
    ({"type": "quantize", "base": "bard", "group_size": 7, "calibration": CALIBRATION}, 422, "invalid-input"),
    ({"type": "quantize", "base": "bard", "calibration": CALIBRATION}, 404, "unknown-model"),
    ({"type": "quantize", "base": "bard@9", "calibration": CALIBRATION}, 404, "unknown-model"),
    ({"type": "quantize", "base": "ver_" + "0" * 32, "calibration": CALIBRATION}, 404, "unknown-version"),
    ({"type": "evaluate", "version": "bard", "corpora": ["shakespeare"]}, 404, "unknown-model"),
    ({"type": "deploy", "deployment": "bard", "version": "bard"}, 404, "unknown-model"),
]


async def test_unknown_things_are_named(api: Api) -> None:
    before = await count_audit(api)
    for spec, status, kind in UNKNOWN:
        response = await submit(api, spec)
        assert (spec, response.status_code, slug(response)) == (spec, status, kind)
    assert await nothing_was_written(api, before)


async def test_an_unknown_version_or_dataset_of_a_known_model(api: Api) -> None:
    await api.make_master()
    for spec, kind in (
        ({"type": "quantize", "base": "bard@9", "calibration": CALIBRATION}, "unknown-version"),
        ({"type": "quantize", "base": "bard@nothing", "calibration": CALIBRATION}, "unknown-version"),
        ({"type": "quantize", "base": "bard", "calibration": CALIBRATION}, "unknown-dataset"),
    ):
        response = await submit(api, spec)
        assert (response.status_code, slug(response)) == (404, kind)


async def test_options_that_cannot_be(api: Api) -> None:
    before = await count_audit(api)
    source = str(write_checkpoint(api.roots / "good", master_contents()))
    nobody = "job_" + "0" * 32
    cases: list[tuple[dict[str, Any], int, str, str]] = [
        ({"needs": [nobody]}, 404, "unknown-job", ""),
        ({"needs": ["fetch"]}, 422, "invalid-input", "needs.0"),
        ({"limits": {"time_s": 0}}, 422, "invalid-input", "limits.time_s"),
        ({"limits": {"memory_bytes": 1}}, 422, "invalid-input", "limits.memory_bytes"),
        ({"limits": {"memory_bytes": 10**30}}, 422, "invalid-input", "limits.memory_bytes"),
        ({"priority": 10}, 422, "invalid-input", "priority"),
        ({"queue": "tpu"}, 422, "invalid-input", "queue"),
        ({"queue": "gpu-80g"}, 422, "invalid-input", "queue"),
        ({"not_before": "2999-01-01T00:00:00Z"}, 422, "invalid-input", "not_before"),
        ({"not_before": "2026-01-01T00:00:00"}, 422, "invalid-input", "not_before"),
        ({"labels": {"-": "x"}}, 422, "invalid-input", "labels"),
        ({"metadata": {"a": "x" * 20_000}}, 422, "invalid-input", "metadata"),
        ({"metadata": {"a": json.loads("[" * 300 + "]" * 300)}}, 422, "invalid-input", "metadata"),
    ]
    for options, status, kind, field in cases:
        body = {"spec": {"type": "import", "model": "bard", "source": source}, **options}
        response = await api[Role.OPERATOR].post("/api/v1/jobs", json=body)
        assert (options, response.status_code, slug(response)) == (options, status, kind), response.text
        assert [error["field"] for error in response.json()["errors"]] == ([field] if field else [])
    endless = "[" * 3000 + "]" * 3000
    body_text = json.dumps({"spec": {"type": "import", "model": "bard", "source": source}, "metadata": {"a": "?"}}).replace('"?"', endless)
    response = await api[Role.OPERATOR].post("/api/v1/jobs", content=body_text, headers={"Content-Type": "application/json"})
    assert (response.status_code, slug(response)) == (400, "malformed-request")
    for ref, status, kind in (
        (f"output:{nobody}", 404, "unknown-job"),
        ("output:fetch", 422, "invalid-input"),
        ("output:", 422, "invalid-input"),
    ):
        response = await submit(api, {"type": "deploy", "deployment": "chat", "version": ref})
        assert (ref, response.status_code, slug(response)) == (ref, status, kind), response.text
    assert await nothing_was_written(api, before)


BAD_NAMES = ["a/b", "..", "../a", "a..b", "nul\0", "x" * 300, "", "Bad"]


async def test_bad_names_are_refused_wherever_a_name_goes(api: Api) -> None:
    before = await count_audit(api)
    source = str(write_checkpoint(api.roots / "good", master_contents()))
    for name in BAD_NAMES:
        answers = [
            await submit(api, {"type": "import", "model": name, "source": source}),
            await submit(api, {"type": "deploy", "deployment": name, "version": "bard"}),
            await api[Role.ADMIN].post("/api/v1/keys", json={"name": name, "role": "viewer"}),
        ]
        assert [(name, response.status_code, slug(response)) for response in answers] == [(name, 422, "invalid-name")] * 3
    assert await nothing_was_written(api, before)


async def test_bad_references_are_problems_of_the_caller(api: Api) -> None:
    await api.make_master()
    kinds = set()
    for ref in ("nul\0", "a/b", "..", "x" * 150, "@", "a@", "@1", "a@b@c", "bard@" + "9" * 40, "bard@0", "bard@-1", "bard@nul\0", " "):
        specs: list[dict[str, Any]] = [
            {"type": "quantize", "base": ref, "calibration": CALIBRATION},
            {"type": "quantize", "base": "bard", "calibration": {"datasets": [ref]}},
            {"type": "evaluate", "version": ref, "corpora": ["shakespeare"]},
            {"type": "evaluate", "version": "bard", "corpora": [ref]},
            {"type": "deploy", "deployment": "bard", "version": ref},
        ]
        for spec in specs:
            response = await submit(api, spec)
            assert response.status_code in {404, 422}, (spec, response.text)
            kinds.add(slug(response))
    assert kinds <= {"invalid-name", "invalid-input", "unknown-model", "unknown-version", "unknown-dataset"}


async def test_job_ids_that_are_none_are_404(api: Api) -> None:
    for job_id in ("nonsense", "job_", "nul%00", "job_" + "0" * 32, "job_" + "A" * 32, "job_" + "0" * 33):
        response = await api[Role.VIEWER].get(f"/api/v1/jobs/{job_id}")
        assert (job_id, response.status_code, slug(response)) == (job_id, 404, "unknown-job")


BAD_SOURCES = [
    "relative/path",
    "",
    "hf:",
    "hf:owner",
    "hf:owner/name/more",
    "hf:../name",
    "hf:owner/na me",
    "hf:owner/name@",
    "https://example.org/model",
    "/nul\0/model",
    "file:///etc",
    "~/model",
]


async def test_sources_that_are_none(api: Api) -> None:
    before = await count_audit(api)
    for source in BAD_SOURCES:
        response = await submit(api, {"type": "import", "model": "bard", "source": source})
        expected = (source, 422, "invalid-input" if source == "" else "source-refused")
        assert (source, response.status_code, slug(response)) == expected
    assert await nothing_was_written(api, before)


async def test_a_repository_of_the_hub_is_left_to_the_worker(api: Api) -> None:
    for source in ("hf:owner/name", "hf:owner/name@main", "hf:HuggingFaceTB/SmolLM2-135M@refs/pr/1"):
        assert (await submit(api, {"type": "import", "model": "bard", "source": source})).status_code == 201


async def test_a_path_outside_the_allowed_roots(api: Api, tmp_path: Path) -> None:
    outside = write_checkpoint(tmp_path / "outside", master_contents())
    link = api.roots / "link"
    link.symlink_to(outside)
    sibling = write_checkpoint(tmp_path / "roots-and-more", master_contents())
    for source in (outside, link, sibling, api.roots / ".." / "outside", Path("/"), Path("/etc")):
        response = await submit(api, {"type": "import", "model": "bard", "source": str(source)})
        assert (response.status_code, slug(response)) == (422, "source-refused"), source
        assert str(api.roots) in response.json()["detail"]


async def test_a_path_that_is_not_there_or_no_directory(api: Api) -> None:
    (api.roots / "file").write_text("x")
    loop = api.roots / "loop"
    loop.symlink_to(loop)
    for name in ("missing", "file", "loop", "n" * 300):
        response = await submit(api, {"type": "import", "model": "bard", "source": str(api.roots / name)})
        assert (response.status_code, slug(response)) == (422, "source-refused"), name


GOOD_WEIGHTS = master_contents()["model.safetensors"]
LYING_HEADER = json.dumps({"a": {"dtype": "F16", "shape": [9, 9], "data_offsets": [0, 32]}}).encode()

BAD_CHECKPOINTS: list[tuple[dict[str, bytes | None], str]] = [
    ({"config__json": None}, "config.json"),
    ({"config__json": b"{"}, "config.json"),
    ({"pytorch_model__bin": b"\x80\x04"}, "pytorch_model.bin"),
    ({"modeling__py": b"import os"}, "modeling.py"),
    ({"config__json": json.dumps({**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}}).encode()}, "auto_map"),
    ({"tokenizer_config__json": b'{"auto_map": {}}'}, "auto_map"),
    ({"model__safetensors": GOOD_WEIGHTS[:-5]}, "model.safetensors"),
    ({"model__safetensors": GOOD_WEIGHTS[:5]}, "model.safetensors"),
    ({"model__safetensors": (2**60).to_bytes(8, "little") + b"{}"}, "model.safetensors"),
    ({"model__safetensors": len(LYING_HEADER).to_bytes(8, "little") + LYING_HEADER + bytes(32)}, "model.safetensors"),
    ({"model__safetensors": None}, "weights"),
    ({"model__safetensors": safetensors_bytes({"a.weight": ("F32", (4, 4))})}, "16-bit"),
    ({"model__safetensors": safetensors_bytes({"a.weight": ("F16", (4, 4)), "b.weight": ("I8", (4, 4))})}, "16-bit"),
    ({"config__json": json.dumps({**CONFIG, "quantization_config": {}}).encode()}, "quantization_config"),
    ({"tokenizer__json": None}, "tokenizer"),
]


async def test_a_checkpoint_that_cannot_be_a_master_is_refused_right_away(api: Api) -> None:
    before = await count_audit(api)
    for number, (changes, named) in enumerate(BAD_CHECKPOINTS):
        source = write_checkpoint(api.roots / f"bad-{number}", master_contents(**changes))
        response = await submit(api, {"type": "import", "model": "bard", "source": str(source)})
        assert (named, response.status_code, slug(response)) == (named, 422, "source-refused")
        assert named in response.json()["detail"]
    assert await nothing_was_written(api, before)


async def test_no_free_argument_reaches_an_engine(api: Api) -> None:
    await api.make_master()
    response = await submit(api, {"type": "deploy", "deployment": "bard", "version": "bard", "engine": {"arguments": "--x"}})
    assert (response.status_code, slug(response)) == (422, "invalid-input")
    assert response.json()["errors"][0]["field"] == "spec.engine.arguments"
