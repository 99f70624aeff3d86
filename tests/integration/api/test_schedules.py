"""Schedules over HTTP, and the loop that fires them in every replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from factories.checkpoints import master_contents, write_checkpoint
from factories.store import opened
from quantry_api.schedules.loop import Prepare, Scheduler
from quantry_api.schedules.service import TemplatePlanner
from quantry_api.settings import ApiSettings
from quantry_core.errors import Unavailable
from quantry_core.jobs import Queue
from quantry_core.keys import Role
from quantry_store.transactions import Prepared

from .conftest import SWEEPS_BY_HAND_S, Api, slug

URL = "/api/v1/schedules"
YEARLY = "0 0 1 1 *"
Make = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def api_settings(api_settings: ApiSettings) -> ApiSettings:
    """The api's own loop looks once, at its start; these tests have their own."""
    return api_settings.model_copy(update={"schedule_interval_s": SWEEPS_BY_HAND_S})


def import_template(api: Api) -> dict[str, Any]:
    source = write_checkpoint(api.roots / "bard", master_contents())
    return {"kind": "job", "submission": {"spec": {"type": "import", "model": "bard", "source": str(source)}}}


@pytest.fixture
def make(api: Api) -> Make:
    """Makes a schedule that must be taken."""
    template = import_template(api)

    async def make(**changes: Any) -> dict[str, Any]:
        body = {"name": "nightly", "cron": YEARLY, "template": template, **changes}
        response = await api[Role.OPERATOR].post(URL, json=body)
        assert response.status_code == 201, response.text
        schedule: dict[str, Any] = response.json()
        return schedule

    return make


async def make_due(database_url: str, seconds: float = 1) -> None:
    """Moves every schedule's next due time so far into the past."""
    async with await AsyncConnection.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        await connection.execute("update schedules set next_run_at = now() - %s * interval '1 second'", (seconds,))


def prepare_of(api: Api) -> Prepare:
    """Returns what the api's own loop looks at templates with."""
    state = api.app.state.api
    return TemplatePlanner(state.estimator, state.settings.import_places).prepare_stored


class Wakes:
    """Remembers which queues were woken, and how often waiting jobs were to be looked at."""

    def __init__(self) -> None:
        self.queues: list[Queue] = []
        self.num_nudges = 0
        self.woken = asyncio.Event()

    async def wake(self, queue: Queue) -> bool:
        self.queues.append(queue)
        self.woken.set()
        return True

    def nudge(self) -> None:
        self.num_nudges += 1


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
async def rivals(api: Api, database_url: str, wakes: Wakes) -> AsyncIterator[list[Scheduler]]:
    """Two schedulers of one database, each with connections of its own."""
    async with opened(database_url) as one, opened(database_url) as other:
        yield [Scheduler(database, prepare_of(api), wakes.wake, wakes.nudge, interval_s=0.01, grace_s=60) for database in (one, other)]


async def runs_of(api: Api, schedule: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api[Role.VIEWER].get(f"{URL}/{schedule['id']}/runs")).json()["data"]
    return found


async def test_a_schedule_from_its_making_to_its_end(api: Api, make: Make) -> None:
    schedule = await make(time_zone="Europe/Berlin")
    assert schedule["next_runs"][0].endswith("-01-01T00:00:00+01:00")
    path = f"{URL}/{schedule['id']}"
    assert (await api[Role.VIEWER].get(path)).json() == schedule
    assert [item["id"] for item in (await api[Role.VIEWER].get(URL)).json()["data"]] == [schedule["id"]]
    paused = (await api[Role.OPERATOR].patch(path, json={"is_paused": True})).json()
    assert (paused["is_paused"], paused["next_run_at"], paused["next_runs"]) == (True, None, [])
    changed = (await api[Role.OPERATOR].patch(path, json={"is_paused": False, "cron": " 30  4 * *  * ", "overlap": "queue"})).json()
    assert (changed["cron"], changed["overlap"]) == ("30 4 * * *", "queue")
    run = await api[Role.OPERATOR].post(f"{path}/run")
    assert run.status_code == 201
    assert (await api.show({"id": run.json()["job_id"]}))["schedule_id"] == schedule["id"]
    assert (await api[Role.VIEWER].get(path)).json()["last_run"] == run.json()
    assert [item["id"] for item in (await api[Role.VIEWER].get("/api/v1/jobs", params={"schedule_id": schedule["id"]})).json()["data"]] == [
        run.json()["job_id"]
    ]
    assert (await api[Role.OPERATOR].delete(path)).status_code == 204
    assert slug(await api[Role.VIEWER].get(path)) == "unknown-schedule"
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert [action for action in reversed(actions) if action.startswith("schedule.")] == [
        "schedule.create",
        "schedule.pause",
        "schedule.resume",
        "schedule.change",
        "schedule.run",
        "schedule.delete",
    ]


async def test_a_run_by_hand_wakes_its_queue(api: Api, make: Make, redis_url: str) -> None:
    schedule = await make()
    assert (await api[Role.OPERATOR].post(f"{URL}/{schedule['id']}/run")).status_code == 201
    with redis.Redis.from_url(redis_url) as client:
        async with asyncio.timeout(10):
            while client.llen("cpu") != 1:  # noqa: ASYNC110 - Redis tells nobody when a message is there
                await asyncio.sleep(0.01)
    again = await api[Role.OPERATOR].post(f"{URL}/{schedule['id']}/run")
    assert (again.status_code, slug(again)) == (409, "conflict")


async def test_the_same_key_makes_one_schedule_and_one_run(api: Api, make: Make) -> None:
    body = {"name": "nightly", "cron": YEARLY, "template": import_template(api), "overlap": "queue"}
    headers = {"Idempotency-Key": "k-1"}
    answers = [await api[Role.OPERATOR].post(URL, json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    other = await api[Role.OPERATOR].post(URL, json={**body, "name": "other"}, headers=headers)
    assert slug(other) == "idempotency-key-reused"
    path = f"{URL}/{answers[0].json()['id']}/run"
    runs = [await api[Role.OPERATOR].post(path, headers={"Idempotency-Key": "k-2"}) for _ in range(2)]
    assert runs[0].json() == runs[1].json()
    assert len(await runs_of(api, answers[0].json())) == 1


async def test_who_may_do_what(api: Api, make: Make) -> None:
    schedule = await make()
    path = f"{URL}/{schedule['id']}"
    viewer = api[Role.VIEWER]
    for refused in (
        await viewer.post(URL, json={"name": "mine", "cron": YEARLY, "template": import_template(api)}),
        await viewer.patch(path, json={"is_paused": True}),
        await viewer.delete(path),
        await viewer.post(f"{path}/run"),
        await api[Role.WORKER].get(URL),
    ):
        assert (refused.status_code, slug(refused)) == (403, "forbidden")
    assert (await viewer.get(f"{path}/runs")).status_code == 200


async def test_a_preview_changes_nothing(api: Api) -> None:
    body = {"cron": "0 30 2 * * *", "time_zone": "America/New_York", "num_runs": 3}
    answer = await api[Role.VIEWER].post(f"{URL}/preview", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["next_runs"]) == 3
    assert (await api[Role.VIEWER].get(URL)).json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        ({"cron": "0 0 30 2 *"}, 422, "bad-cron"),
        ({"cron": "every day"}, 422, "bad-cron"),
        ({"time_zone": "Europe/Atlantis"}, 422, "invalid-input"),
        ({"name": "No Name"}, 422, "invalid-name"),
        ({"overlap": "sometimes"}, 422, "invalid-input"),
        ({"template": {"kind": "job", "submission": {"spec": {"type": "import", "model": "x", "source": "/etc"}}}}, 422, "source-refused"),
        (
            {"template": {"kind": "job", "submission": {"spec": {"type": "evaluate", "version": "nobody@1", "corpora": ["x"]}}}},
            404,
            "unknown-model",
        ),
        (
            {
                "template": {
                    "kind": "pipeline",
                    "submission": {
                        "name": "loop",
                        "steps": {
                            "a": {"spec": {"type": "evaluate", "version": "output:b", "corpora": ["x"]}},
                            "b": {"spec": {"type": "evaluate", "version": "output:a", "corpora": ["x"]}},
                        },
                    },
                }
            },
            422,
            "invalid-input",
        ),
        ({"template": {"kind": "job"}}, 422, "invalid-input"),
        ({"whatever": 1}, 422, "invalid-input"),
    ],
)
async def test_what_is_no_schedule(api: Api, changes: dict[str, Any], status: int, expected: str) -> None:
    body = {"name": "nightly", "cron": YEARLY, "template": import_template(api), **changes}
    answer = await api[Role.OPERATOR].post(URL, json=body)
    assert (answer.status_code, slug(answer)) == (status, expected), answer.text
    assert (await api[Role.VIEWER].get(URL)).json()["data"] == []


async def test_an_address_that_names_no_schedule(api: Api) -> None:
    for path in (f"{URL}/nightly", f"{URL}/sch_{'0' * 32}", f"{URL}/sch_{'0' * 32}/runs"):
        assert slug(await api[Role.VIEWER].get(path)) == "unknown-schedule"


async def test_twenty_due_fires_of_two_schedulers_are_twenty_runs(
    api: Api, make: Make, rivals: list[Scheduler], wakes: Wakes, database_url: str
) -> None:
    schedules = [await make(name=f"schedule-{number}") for number in range(20)]
    await make_due(database_url)
    counts = await asyncio.gather(*(rival.fire() for rival in rivals))
    assert sum(counts) == 20
    for schedule in schedules:
        assert [run["outcome"] for run in await runs_of(api, schedule)] == ["fired"]
    assert len((await api[Role.VIEWER].get("/api/v1/jobs", params={"limit": 100})).json()["data"]) == 20
    assert wakes.queues == ["cpu"] * 20
    assert wakes.num_nudges == 20


async def test_twenty_due_times_of_one_schedule_are_twenty_runs(api: Api, make: Make, rivals: list[Scheduler], database_url: str) -> None:
    schedule = await make(overlap="queue")
    for _ in range(20):
        await make_due(database_url)
        assert sum(await asyncio.gather(*(rival.fire() for rival in rivals))) == 1
    assert sorted(run["outcome"] for run in await runs_of(api, schedule)) == ["fired"] + ["held"] * 19


async def test_the_loop_fires_until_it_is_cancelled(api: Api, make: Make, rivals: list[Scheduler], wakes: Wakes, database_url: str) -> None:
    schedule = await make()
    await make_due(database_url)
    loops = [asyncio.create_task(rival.run()) for rival in rivals]
    await asyncio.wait_for(wakes.woken.wait(), 10)
    for loop in loops:
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
    assert [run["outcome"] for run in await runs_of(api, schedule)] == ["fired"]


async def test_a_part_that_is_away_makes_a_run_late_and_no_other(api: Api, make: Make, wakes: Wakes, database_url: str) -> None:
    away, well = await make(name="away"), await make(name="well")
    await make_due(database_url)
    prepare = prepare_of(api)
    is_away = True

    async def prepare_unless_away(project_id: str, template: dict[str, Any]) -> Prepared:
        if is_away and wakes.num_nudges == 0:
            raise Unavailable("the object store did not answer")
        return await prepare(project_id, template)

    scheduler = Scheduler(api.database, prepare_unless_away, wakes.wake, wakes.nudge, interval_s=1, grace_s=60)
    with capture_logs() as logs:
        assert await scheduler.fire() == 0
    assert [entry["event"] for entry in logs if entry["event"].startswith("schedule")] == ["schedule.waiting"] * 2
    is_away = False
    assert await scheduler.fire() == 2
    assert [len(await runs_of(api, schedule)) for schedule in (away, well)] == [1, 1]


async def test_a_defect_of_one_schedule_keeps_back_no_other(api: Api, make: Make, wakes: Wakes, database_url: str) -> None:
    broken, well = await make(name="broken"), await make(name="well", template=_other_template(api))
    await make_due(database_url)
    prepare = prepare_of(api)

    async def prepare_or_break(project_id: str, template: dict[str, Any]) -> Prepared:
        if template == broken["template"]:
            raise RuntimeError("a defect")
        return await prepare(project_id, template)

    scheduler = Scheduler(api.database, prepare_or_break, wakes.wake, wakes.nudge, interval_s=1, grace_s=60)
    with capture_logs() as logs:
        assert await scheduler.fire() == 1
    assert [entry["schedule_id"] for entry in logs if entry["event"] == "schedule.skipped"] == [broken["id"]]
    assert [len(await runs_of(api, schedule)) for schedule in (broken, well)] == [0, 1]


async def test_what_cannot_be_submitted_any_more_is_refused(api: Api, make: Make, rivals: list[Scheduler], database_url: str) -> None:
    schedule = await make()
    (api.roots / "bard" / "config.json").unlink()
    await make_due(database_url)
    assert await rivals[0].fire() == 1
    (run,) = await runs_of(api, schedule)
    assert (run["outcome"], run["job_id"]) == ("refused", None)
    assert "config.json" in run["message"]
    answer = await api[Role.OPERATOR].post(f"{URL}/{schedule['id']}/run")
    assert (answer.status_code, slug(answer)) == (422, "invalid-input")
    assert (await api[Role.VIEWER].get(f"{URL}/{schedule['id']}/runs", params={"outcome": "fired"})).json()["data"] == []


async def test_a_template_that_this_release_cannot_read_is_refused(
    api: Api, make: Make, rivals: list[Scheduler], database_url: str
) -> None:
    schedule = await make()
    async with await AsyncConnection.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        await connection.execute('update schedules set template = \'{"kind": "dance"}\', next_run_at = now()')
    assert await rivals[0].fire() == 1
    (run,) = await runs_of(api, schedule)
    assert run["outcome"] == "refused"
    assert run["message"].startswith("this release cannot read the template")
    assert (await api[Role.VIEWER].get(f"{URL}/{schedule['id']}")).status_code == 200


def _other_template(api: Api) -> dict[str, Any]:
    source = write_checkpoint(api.roots / "other", master_contents())
    return {"kind": "job", "submission": {"spec": {"type": "import", "model": "other", "source": str(source)}}}
