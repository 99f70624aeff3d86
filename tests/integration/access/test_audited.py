"""Every change leaves a trace: each route that changes something is asked once, so that it does, and the audit log has grown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.access_world import World, changing_routes
from factories.checkpoints import master_contents, write_checkpoint
from factories.oidc_provider import CLIENT_ID, LocalProvider
from factories.store import TOOLCHAIN, WORKER_ID
from quantry_api.sessions.endpoints import SignIns
from quantry_api.sessions.id_tokens import IdTokens
from quantry_api.sessions.settings import OidcSettings
from quantry_core.captures import CaptureReport
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import EngineConfig, FinetuneSpec
from quantry_core.keys import Role
from quantry_core.oidc import Grant
from quantry_core.permissions import SIGNS_OF_LIFE
from quantry_core.versions import ManifestFile
from quantry_store.transactions import begin_rollout, promote_rollout

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHATS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"What of {n}?"}, {"role": "assistant", "content": f"This of {n}."}]}) + "\n"
    for n in range(8)
).encode()


class Walk:
    """Asks routes one after another; each must be answered with success and leave at least one entry."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: set[tuple[str, str]] = set()
        self.silent: list[tuple[str, str]] = []

    async def do(self, identity: str, method: str, template: str, /, body: Any = None, *, content: bytes | None = None, **ids: Any) -> Any:
        """Returns what a route answers, None where that is nothing."""
        before = await self.world.acts()
        request: dict[str, Any] = {} if body is None else {"json": body}
        if content is not None:
            request = {"content": content}
        answer = await self.world.ask(identity, method, template, ids, **request)
        assert answer.is_success, f"{method} {template}: {answer.status_code} {answer.text[:500]}"
        self.asked.add((method, template))
        if await self.world.acts() == before:
            self.silent.append((method, template))
        return answer.json() if answer.content else None

    async def form(self, template: str, content: bytes) -> Any:
        """Returns what the files API answers to a form."""
        before = await self.world.acts()
        files = {"file": ("rows.jsonl", content)}
        answer = await self.world.ask("operator", "POST", template, {}, data={"purpose": "fine-tune"}, files=files)
        assert answer.is_success, answer.text
        self.asked.add(("POST", template))
        if await self.world.acts() == before:
            self.silent.append(("POST", template))
        return answer.json()


async def test_every_route_that_changes_something_writes_to_the_audit_log(world: World, tmp_path: Path) -> None:
    walk = Walk(world)
    await keys_and_projects(walk)
    await sessions(walk)
    await hosts(walk)
    await jobs(walk)
    await texts(walk)
    await webhooks(walk)
    await attempts(walk, tmp_path)
    await versions(walk)
    await mlflows(walk)
    await serving(walk)
    assert walk.asked | SIGNS_OF_LIFE == changing_routes(), "a route that changes something has no step here"
    assert walk.silent == []
    found = [await world.ask(who, "GET", "/api/v1/audit/verify", {}) for who in ("admin", "platform")]
    assert [answer.json()["is_whole"] for answer in found] == [True, True]


async def sessions(walk: Walk) -> None:
    provider = LocalProvider()

    def answer(request: httpx.Request) -> httpx.Response:
        said = provider.answer(request.method, str(request.url))
        return httpx.Response(said.status, json=said.body)

    grant = Grant(value="ml", project="zebra-owner", role=Role.VIEWER)
    settings = OidcSettings(issuer=provider.issuer, client_id=CLIENT_ID, grants=[grant])
    tokens = IdTokens(settings, transport=httpx.MockTransport(answer))
    walk.world.api.state.sign_ins = SignIns(settings, tokens)
    made = await walk.do("none", "POST", "/api/v1/sessions", {"id_token": provider.token(), "nonce": "n" * 32})
    walk.world.secrets["session"] = made["secret"]
    await walk.do("session", "DELETE", "/api/v1/sessions/current")
    await tokens.close()


async def keys_and_projects(walk: Walk) -> None:
    key = (await walk.do("admin", "POST", "/api/v1/keys", {"name": "ci", "role": "viewer"}))["key"]
    await walk.do("admin", "POST", "/api/v1/keys/{key_id}/rotate", {"overlap_s": 60}, key_id=key["id"])
    await walk.do("admin", "DELETE", "/api/v1/keys/{key_id}", key_id=key["id"])
    made = await walk.do("platform", "POST", "/api/v1/projects", {"name": "search", "limits": {"share": 2}})
    await walk.do("platform", "PATCH", "/api/v1/projects/{project}", {"is_archived": True}, project=made["project"]["id"])


async def hosts(walk: Walk) -> None:
    path = "/api/v1/worker-enrolments"
    unused = await walk.do("platform", "POST", path, {"name": "gpu-1"})
    await walk.do("platform", "DELETE", path + "/{enrolment_id}", enrolment_id=unused["enrolment"]["id"])
    token = (await walk.do("platform", "POST", path, {"name": "gpu-2"}))["token"]
    enrolled = await walk.do("none", "POST", "/api/v1/enrol", {"token": token, "hostname": "rack-7"})
    walk.world.secrets["host"] = enrolled["secret"]
    await walk.do("host", "POST", "/api/v1/execution/key/rotate")
    await walk.do("platform", "DELETE", "/api/v1/worker-hosts/{host_id}", host_id=enrolled["host"]["id"])


async def jobs(walk: Walk) -> None:
    source = str(write_checkpoint(walk.world.root / "plain", master_contents()))
    spec = {"spec": {"type": "import", "model": "plain", "source": source}}
    job = await walk.do("operator", "POST", "/api/v1/jobs", spec)
    await walk.do("operator", "POST", "/api/v1/jobs/{job_id}/cancel", job_id=job["id"])
    again = await walk.do("operator", "POST", "/api/v1/jobs/{job_id}/retry", job_id=job["id"])
    await walk.do("operator", "POST", "/api/v1/jobs/{job_id}/cancel", job_id=again["id"])
    pipeline = await walk.do("operator", "POST", "/api/v1/pipelines", {"name": "one", "steps": {"fetch": spec}})
    await walk.do("operator", "POST", "/api/v1/pipelines/{pipeline_id}/cancel", pipeline_id=pipeline["id"])
    await walk.do("operator", "POST", "/api/v1/pipelines/{pipeline_id}/retry", pipeline_id=pipeline["id"])
    await walk.do("operator", "POST", "/api/v1/pipelines/{pipeline_id}/cancel", pipeline_id=pipeline["id"])
    template = {"kind": "job", "submission": spec}
    schedule = await walk.do("operator", "POST", "/api/v1/schedules", {"name": "yearly", "cron": "0 0 1 1 *", "template": template})
    await walk.do("operator", "PATCH", "/api/v1/schedules/{schedule_id}", {"is_paused": True}, schedule_id=schedule["id"])
    run = await walk.do("operator", "POST", "/api/v1/schedules/{schedule_id}/run", schedule_id=schedule["id"])
    await walk.do("operator", "POST", "/api/v1/jobs/{job_id}/cancel", job_id=run["job_id"])
    await walk.do("operator", "DELETE", "/api/v1/schedules/{schedule_id}", schedule_id=schedule["id"])


async def texts(walk: Walk) -> None:
    words = await walk.do("operator", "PUT", "/api/v1/datasets/{name}", content=b"some words " * 200, name="words")
    recipe = {"parents": [{"ref": words["id"]}], "shuffle": True, "passage_characters": 100}
    await walk.do("operator", "POST", "/api/v1/datasets/{name}/derive", recipe, name="mixed")
    spare = await walk.do("operator", "PUT", "/api/v1/datasets/{name}", content=b"other words " * 200, name="spare")
    await walk.do("operator", "DELETE", "/api/v1/datasets/{dataset_id}", dataset_id=spare["id"])
    await walk.do("operator", "POST", "/api/v1/datasets/{dataset_id}/restore", dataset_id=spare["id"])
    file = await walk.form("/v1/files", CHATS)
    await walk.do("operator", "DELETE", "/v1/files/{file_id}", file_id=file["id"])
    upload = await walk.do("operator", "POST", "/api/v1/uploads")
    put = "/api/v1/uploads/{upload_id}/files/{path}"
    await walk.do("operator", "PUT", put, content=b"{}", upload_id=upload["id"], path="config.json")
    await walk.do("operator", "DELETE", "/api/v1/uploads/{upload_id}", upload_id=upload["id"])
    await walk.do("admin", "POST", "/api/v1/vault/verify", {})
    await walk.do("platform", "POST", "/api/v1/vault/collect", {})
    await walk.do("platform", "POST", "/api/v1/retention/run", {"dry_run": True})


async def webhooks(walk: Walk) -> None:
    hook = {"name": "hook", "url": "https://example.com/in", "events": ["job.succeeded"]}
    webhook_id = (await walk.do("operator", "POST", "/api/v1/webhooks", hook))["webhook"]["id"]
    await walk.do("operator", "PATCH", "/api/v1/webhooks/{webhook_id}", {"name": "hooked"}, webhook_id=webhook_id)
    await walk.do("operator", "POST", "/api/v1/webhooks/{webhook_id}/rotate-secret", {}, webhook_id=webhook_id)
    delivery = await walk.do("operator", "POST", "/api/v1/webhooks/{webhook_id}/test", webhook_id=webhook_id)
    await walk.world.owner.sql("update webhook_deliveries set state = 'failed', next_attempt_at = null, finished_at = now()")
    again = "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"
    await walk.do("operator", "POST", again, webhook_id=webhook_id, delivery_id=delivery["id"])
    await walk.do("operator", "DELETE", "/api/v1/webhooks/{webhook_id}", webhook_id=webhook_id)


async def attempts(walk: Walk, folder: Path) -> None:
    """An import whose files are sealed and that fails, and a training with a checkpoint."""
    world = walk.world
    slot = {"queue": "cpu", "worker_id": WORKER_ID, "environments": {"ml": TOOLCHAIN}}
    source = str(write_checkpoint(world.root / "sealed", master_contents()))
    await walk.do("operator", "POST", "/api/v1/jobs", {"spec": {"type": "import", "model": "sealed", "source": source}})
    lease = await walk.do("worker", "POST", "/api/v1/execution/next", slot)
    job_id, attempt = lease["job"]["id"], lease["attempt"]
    staged = []
    for path, content in master_contents().items():
        (folder / "staged").write_bytes(content)
        staged.append(world.parts.staging.put(job_id, attempt, path, folder / "staged"))
    (folder / "staged").write_bytes(b"{}\n")
    results = [world.parts.staging.put_artifact(job_id, attempt, "results.jsonl", folder / "staged")]
    await walk.do("worker", "POST", "/api/v1/seals", _seal(job_id, attempt, staged))
    await walk.do("worker", "POST", "/api/v1/seals/artifacts", _seal(job_id, attempt, results))
    failed = {"attempt": attempt, "outcome": "failed", "reason": "invalid_input", "message": "no"}
    await walk.do("worker", "POST", "/api/v1/execution/jobs/{job_id}/finish", failed, job_id=job_id)
    master = await world.owner.master("teacher", "teacher weights")
    lessons = await world.owner.dataset("lessons")
    trained = await world.owner.running(FinetuneSpec(model=master.id, training_file=lessons.id))
    (folder / "staged").write_bytes(b"weights")
    kept = [world.parts.staging.put_checkpoint(trained.id, trained.attempt, 5, "state.bin", folder / "staged")]
    await walk.do("worker", "POST", "/api/v1/seals/checkpoints", _seal(trained.id, trained.attempt, kept) | {"step": 5})
    report = {"attempt": trained.attempt, "step": 5, "files": [file.model_dump() for file in kept]}
    await walk.do("worker", "POST", "/api/v1/execution/jobs/{job_id}/checkpoints", report, job_id=trained.id)
    given_up = {"attempt": trained.attempt, "outcome": "failed", "reason": "invalid_input", "message": "no"}
    await walk.do("worker", "POST", "/api/v1/execution/jobs/{job_id}/finish", given_up, job_id=trained.id)
    tuned = await walk.do("operator", "POST", "/v1/fine_tuning/jobs", {"model": master.id, "training_file": lessons.id})
    await walk.do("operator", "POST", "/v1/fine_tuning/jobs/{job_id}/cancel", job_id=tuned["id"])


def _seal(job_id: str, attempt: int, files: list[ManifestFile]) -> dict[str, Any]:
    return {"job_id": job_id, "attempt": attempt, "files": [file.model_dump() for file in files]}


async def versions(walk: Walk) -> None:
    owner = walk.world.owner
    master = await owner.master("bard", "bard weights")
    spare = await owner.quantized(master, await owner.dataset("tales"))
    for content in (b"{}", b"quantized"):
        # The vault has the bytes of what is restored.
        walk.world.parts.vault.put_stream(BytesIO(content))
    alias: dict[str, Any] = {"name": "bard", "alias": "production"}
    await walk.do("operator", "PUT", "/api/v1/models/{name}/aliases/{alias}", {"version_id": master.id}, **alias)
    await walk.do("operator", "DELETE", "/api/v1/models/{name}/aliases/{alias}", **alias)
    await walk.do("operator", "PATCH", "/api/v1/versions/{ref}/notes", {"notes": "the first"}, ref=master.id)
    for action in ("archive", "unarchive"):
        await walk.do("operator", "POST", f"/api/v1/versions/{{version_id}}/{action}", version_id=spare.id)
    await walk.do("operator", "DELETE", "/api/v1/versions/{version_id}", version_id=spare.id)
    await walk.do("operator", "POST", "/api/v1/versions/{version_id}/restore", version_id=spare.id)


async def mlflows(walk: Walk) -> None:
    """MLflow's door to the same versions."""
    door = "/mlflow/api/2.0/mlflow"
    models, versions = f"{door}/registered-models", f"{door}/model-versions"
    empty = {"name": "empty"}
    await walk.do("operator", "POST", f"{models}/create", empty)
    await walk.do("operator", "PATCH", f"{models}/update", empty | {"description": "nothing yet"})
    await walk.do("operator", "PATCH", "/api/v1/models/{name}/notes", {"set_tags": {"about": "two words"}}, name="empty")
    await walk.do("operator", "POST", f"{models}/set-tag", empty | {"key": "team", "value": "drama"})
    await walk.do("operator", "DELETE", f"{models}/delete-tag", empty | {"key": "team"})
    begun = await walk.do("operator", "POST", f"{versions}/create", empty | {"source": "hf:owner/name"})
    await walk.do("operator", "POST", "/api/v1/jobs/{job_id}/cancel", job_id=begun["model_version"]["version"])
    await walk.do("operator", "DELETE", f"{models}/delete", empty)
    spare = await walk.world.owner.quantized(await walk.world.owner.master("lear", "lear weights"), await walk.world.owner.dataset("acts"))
    one = {"name": spare.model_name, "version": str(spare.number)}
    await walk.do("operator", "PATCH", f"{versions}/update", one | {"description": "a spare one"})
    await walk.do("operator", "POST", f"{versions}/set-tag", one | {"key": "about", "value": "two words"})
    await walk.do("operator", "DELETE", f"{versions}/delete-tag", one | {"key": "about"})
    alias = {"name": spare.model_name, "alias": "champion"}
    await walk.do("operator", "POST", f"{models}/alias", alias | {"version": one["version"]})
    await walk.do("operator", "DELETE", f"{models}/alias", alias)
    archived = await walk.do("operator", "POST", f"{versions}/transition-stage", one | {"stage": "Archived"})
    assert archived["model_version"]["current_stage"] == "Archived"
    taken_back = await walk.do("operator", "POST", f"{versions}/transition-stage", one | {"stage": "None"})
    assert taken_back["model_version"]["current_stage"] == "None"
    await walk.do("operator", "DELETE", f"{versions}/delete", one)


async def serving(walk: Walk) -> None:
    owner = walk.world.owner
    room = {"engine": EngineConfig(max_adapters=2, max_adapter_rank=16)}
    first, second = await owner.master("first", "first weights"), await owner.master("second", "second weights")
    rollout = await owner.rollout(first, "chat", **room)
    await _promote(walk, rollout.id)
    adapter = await owner.adapter(first, "an adapter", suffix="tuned")
    attached: dict[str, Any] = {"name": "chat", "adapter": "tuned"}
    await walk.do("operator", "PUT", "/api/v1/deployments/{name}/adapters/{adapter}", {"version": adapter.id}, **attached)
    await walk.do("operator", "DELETE", "/api/v1/deployments/{name}/adapters/{adapter}", **attached)
    await captures(walk, rollout.to_release_id)
    deploy = {"deployment": "chat", "version": second.id}
    asked = await walk.do("operator", "POST", "/api/v1/rollouts", deploy)
    async with walk.world.database.begin() as uow:
        await begin_rollout(uow, asked["id"])
    for action in ("pause", "resume", "promote", "abort"):
        await walk.do("operator", "POST", f"/api/v1/rollouts/{{rollout_id}}/{action}", rollout_id=asked["id"])
    again = await walk.do("operator", "POST", "/api/v1/rollouts", deploy)
    await _promote(walk, again["id"])
    await walk.do("operator", "POST", "/api/v1/deployments/{name}/rollback", name="chat")
    back = (await walk.world.ask("viewer", "GET", "/api/v1/deployments/{name}", {"name": "chat"})).json()["active_rollout"]
    await walk.do("operator", "POST", "/api/v1/rollouts/{rollout_id}/abort", rollout_id=back["id"])
    third = await walk.do("operator", "POST", "/api/v1/rollouts", {"deployment": "chat", "version": first.id})
    async with walk.world.database.begin() as uow:
        await begin_rollout(uow, third["id"])
    await walk.do("operator", "POST", "/api/v1/rollouts/{rollout_id}/rollback", rollout_id=third["id"])
    await walk.do("operator", "POST", "/api/v1/deployments/{name}/stop", name="chat")
    await walk.do("operator", "POST", "/api/v1/deployments/{name}/start", name="chat")


async def captures(walk: Walk, release_id: str) -> None:
    await walk.do("operator", "PUT", "/api/v1/deployments/{name}/capture", {"percent": 100}, name="chat")
    deployment = await walk.world.owner.deployment("chat")
    prompt = {
        "id": new_id(IdPrefix.EVENT),
        "deployment_id": deployment.id,
        "release_id": release_id,
        "captured_at": "2026-11-23T12:00:00Z",
        "path": "/v1/completions",
        "body": '"Who speaks in the tempest, and of what, and to whom, and why at all?"',
    }
    report = CaptureReport.model_validate({"prompts": [prompt]}).model_dump(mode="json")
    assert (await walk.world.ask("gateway", "POST", "/internal/v1/captures", {}, json=report)).is_success
    await walk.do("operator", "POST", "/api/v1/deployments/{name}/capture/dataset", {"name": "asked"}, name="chat")
    await walk.do("operator", "DELETE", "/api/v1/deployments/{name}/capture", name="chat")


async def _promote(walk: Walk, rollout_id: str) -> None:
    async with walk.world.database.begin() as uow:
        await begin_rollout(uow, rollout_id)
    async with walk.world.database.begin() as uow:
        await promote_rollout(uow, rollout_id)


async def test_an_end_that_was_noted_elsewhere_is_held_against_the_log(world: World) -> None:
    verify = "/api/v1/audit/verify"
    end = (await world.ask("admin", "GET", verify, {})).json()
    good = {"seq": end["last_seq"], "hash": end["last_hash"]}
    wrong = {"seq": end["last_seq"], "hash": "f" * 64}
    ahead = {"seq": end["last_seq"] + 1000, "hash": end["last_hash"]}
    async with world.client("admin", verify) as client:
        found = [(await client.get(verify, params=noted)).json() for noted in (good, wrong, ahead)]
    assert [one["is_whole"] for one in found] == [True, False, False]
    assert [one["broken_at"]["seq"] for one in found[1:]] == [wrong["seq"], ahead["seq"]]
    assert "written anew" in found[1]["broken_at"]["why"]
    async with world.database.begin() as uow:
        assert await uow.audit.cut(world.owner.project_id, datetime.now(UTC) + timedelta(days=1), limit=3) == 3
    async with world.client("admin", verify) as client:
        cut, there = [(await client.get(verify, params={"seq": seq, "hash": "f" * 64})).json() for seq in (2, 3)]
        assert (await client.get(verify, params=good)).json()["is_whole"], "it is still there"
        assert (await client.get(verify, params={"seq": 2})).status_code == 422
    assert ("retention has removed it" in cut["broken_at"]["why"], "written anew" in there["broken_at"]["why"]) == (True, True)
