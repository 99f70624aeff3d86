"""Pipelines over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from factories.checkpoints import master_contents, write_checkpoint
from quantry_core.keys import Role

from .conftest import Api, slug

NOWHERE = "pip_" + "0" * 32


def nightly(api: Api) -> dict[str, Any]:
    """Returns import -> quantize -> evaluate; the dataset ``shakespeare`` must be there."""
    source = write_checkpoint(api.roots / "bard", master_contents())
    quantize = {"type": "quantize", "base": "output:fetch", "calibration": {"datasets": ["shakespeare"]}}
    evaluate = {"type": "evaluate", "version": "output:shrink", "against": "output:fetch", "corpora": ["shakespeare"]}
    return {
        "name": "nightly",
        "steps": {
            "fetch": {"spec": {"type": "import", "model": "bard", "source": str(source)}, "priority": 1},
            "shrink": {"spec": quantize},
            "measure": {"spec": evaluate, "labels": {"team": "search"}},
        },
        "labels": {"nightly": "yes"},
        "metadata": {"ticket": 7},
    }


async def post(api: Api, body: Any, path: str = "/api/v1/pipelines") -> httpx.Response:
    return await api[Role.OPERATOR].post(path, json=body)


async def test_a_pipeline_is_submitted_shown_listed_cancelled_and_tried_again(api: Api) -> None:
    await api.make_dataset()
    made = await post(api, nightly(api))
    assert made.status_code == 201, made.text
    pipeline = made.json()
    assert [(job["step"], job["status"], job["queue"]) for job in pipeline["jobs"]] == [
        ("fetch", "queued", "cpu"),
        ("shrink", "waiting", "cpu"),
        ("measure", "waiting", "cpu"),
    ]
    assert (pipeline["status"], pipeline["num_jobs"], pipeline["metadata"]) == ("queued", {"queued": 1, "waiting": 2}, {"ticket": 7})
    assert pipeline["jobs"][2]["labels"] == {"nightly": "yes", "team": "search"}
    assert all(job["estimate"]["key"] for job in pipeline["jobs"])
    path = f"/api/v1/pipelines/{pipeline['id']}"
    assert (await api[Role.VIEWER].get(path)).json() == pipeline
    listed = (await api[Role.VIEWER].get("/api/v1/pipelines?labels=nightly%3Dyes")).json()["data"]
    assert listed == [{key: value for key, value in pipeline.items() if key != "jobs"}]
    jobs = (await api[Role.VIEWER].get(f"/api/v1/jobs?pipeline_id={pipeline['id']}")).json()["data"]
    assert {job["id"] for job in jobs} == {job["id"] for job in pipeline["jobs"]}
    early = await api[Role.OPERATOR].post(f"{path}/retry")
    assert (early.status_code, slug(early)) == (409, "conflict")
    cancelled = await api[Role.OPERATOR].post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["num_jobs"]) == (200, "cancelled", {"cancelled": 3})
    retried = await api[Role.OPERATOR].post(f"{path}/retry")
    assert (retried.status_code, retried.json()["num_jobs"]) == (201, {"queued": 1, "waiting": 2})
    assert [job["retry_of"] for job in retried.json()["jobs"]] == [job["id"] for job in pipeline["jobs"]]


async def test_what_cannot_be_a_pipeline(api: Api) -> None:
    await api.make_dataset()
    good = nightly(api)
    steps = good["steps"]
    fetch, shrink = steps["fetch"], steps["shrink"]
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"a": {**fetch, "needs": ["b"]}, "b": {**fetch, "needs": ["a"]}}, "invalid-input", "in a loop"),
        ({"a": {**fetch, "needs": ["a"]}}, "invalid-input", "in a loop"),
        ({"a": {**fetch, "needs": ["b"]}}, "invalid-input", "no step of this pipeline"),
        ({"shrink": shrink}, "invalid-input", "needs 'fetch', which is no step"),
        ({"fetch": fetch, "a": {**shrink, "spec": {**shrink["spec"], "method": "magic"}}}, "unknown-method", "step 'a'"),
        ({"fetch": {"spec": {**fetch["spec"], "source": "relative"}}}, "source-refused", "step 'fetch'"),
        ({"fetch": {**fetch, "queue": "gpu-80g"}}, "invalid-input", "step 'fetch'"),
        ({"Bad Name": fetch}, "invalid-name", "lower-case"),
        ({}, "invalid-input", "steps"),
        ({"fetch": {**fetch, "limits": {"time_s": 0}}}, "invalid-input", "limits.time_s"),
        ({"fetch": {**fetch, "labels": {"te am": "x"}}}, "invalid-input", "cannot be a label's key"),
    ]
    for bad, kind, words in cases:
        response = await post(api, {**good, "steps": bad})
        assert (words, response.status_code, slug(response)) == (words, 422, kind), response.text
        assert words in response.json()["detail"]
    assert (await api[Role.VIEWER].get("/api/v1/jobs")).json()["data"] == []
    assert (await api[Role.VIEWER].get("/api/v1/pipelines")).json()["data"] == []


async def test_ids_that_are_none_are_404(api: Api) -> None:
    for pipeline_id in ("nonsense", "nul%00", NOWHERE, "job_" + "0" * 32):
        for response in (
            await api[Role.VIEWER].get(f"/api/v1/pipelines/{pipeline_id}"),
            await api[Role.OPERATOR].post(f"/api/v1/pipelines/{pipeline_id}/cancel"),
            await api[Role.OPERATOR].post(f"/api/v1/pipelines/{pipeline_id}/retry"),
        ):
            assert (pipeline_id, response.status_code, slug(response)) == (pipeline_id, 404, "unknown-pipeline")


async def test_a_slot_is_woken_for_each_step_that_may_begin(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    monkeypatch.setattr(api.app.state.api.waker, "soon", woken.append)
    spec = nightly(api)["steps"]["fetch"]["spec"]
    steps = {"one": {"spec": spec}, "two": {"spec": spec}, "after": {"spec": spec, "needs": ["one"]}}
    assert (await post(api, {"name": "wide", "steps": steps})).status_code == 201
    assert woken == ["cpu", "cpu"]
