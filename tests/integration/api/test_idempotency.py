"""A request that is sent twice makes one thing."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import httpx

from factories.checkpoints import master_contents, write_checkpoint
from quantry_core.keys import Role

from .conftest import Api, slug


def import_body(api: Api, model: str = "bard") -> dict[str, Any]:
    source = write_checkpoint(api.roots / model, master_contents())
    return {"spec": {"type": "import", "model": model, "source": str(source)}}


async def post(api: Api, body: dict[str, Any], key: str | bytes = "key", path: str = "/api/v1/jobs") -> httpx.Response:
    value = key.encode("ascii") if isinstance(key, str) else key
    return await api[Role.OPERATOR].post(path, json=body, headers={b"Idempotency-Key": value})


async def count_jobs(api: Api) -> int:
    return len((await api[Role.VIEWER].get("/api/v1/jobs?limit=100")).json()["data"])


async def test_fifty_at_once_make_one_job(api: Api) -> None:
    body = import_body(api)
    answers = await asyncio.gather(*(post(api, body) for _ in range(50)))
    made = [answer for answer in answers if answer.status_code == 201]
    busy = [answer for answer in answers if answer.status_code == 409]
    assert len(made) + len(busy) == 50
    assert len({answer.json()["id"] for answer in made}) == 1
    assert {(slug(answer), answer.headers["Retry-After"]) for answer in busy} <= {("idempotency-key-in-flight", "1")}
    assert await count_jobs(api) == 1


async def test_the_same_again_is_the_same_job_as_it_is_now(api: Api) -> None:
    body = import_body(api)
    first = (await post(api, body)).json()
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{first['id']}/cancel")
    # What the first request was checked against may be gone: the answer is that it was taken.
    shutil.rmtree(body["spec"]["source"])
    again = await post(api, body)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (201, first["id"], "cancelled")


async def test_another_body_or_address_is_refused(api: Api) -> None:
    await post(api, import_body(api))
    steps = {"name": "nightly", "steps": {"fetch": import_body(api)}}
    for answer in (await post(api, import_body(api, "other")), await post(api, steps, path="/api/v1/pipelines")):
        assert (answer.status_code, slug(answer)) == (422, "idempotency-key-reused")
    assert await count_jobs(api) == 1


async def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    refused = await post(api, {"spec": {"type": "import", "model": "bard", "source": "relative"}})
    assert refused.status_code == 422
    assert (await post(api, import_body(api))).status_code == 201


async def test_a_pipeline_is_made_once(api: Api) -> None:
    body = {"name": "nightly", "steps": {"fetch": import_body(api)}}
    first, second = [await post(api, body, path="/api/v1/pipelines") for _ in range(2)]
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    await api[Role.OPERATOR].post(f"/api/v1/pipelines/{first.json()['id']}/cancel")
    path = f"/api/v1/pipelines/{first.json()['id']}/retry"
    retried = [await api[Role.OPERATOR].post(path, headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.status_code for answer in retried] == [201, 201]
    assert await count_jobs(api) == 2


async def test_keys_that_are_none(api: Api) -> None:
    body = import_body(api)
    for key in ("", "x" * 256, "k\u00e9y".encode("latin-1"), b"a\x01b"):
        answer = await post(api, body, key=key)
        assert (key, answer.status_code, slug(answer)) == (key, 422, "invalid-input")
    assert (await post(api, body, key="x" * 255)).status_code == 201
    assert await count_jobs(api) == 1
