"""Every name, note and message that a page shows, each with markup in it: all of it is text, and nothing of it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import expect

from factories.browser import Visit
from factories.job_api import OPERATOR_KEY, JobApi, a_job, a_spec
from factories.registry_api import CORPUS, a_dataset, a_version, evidence_of
from factories.serving import ROLLOUT_ID, a_judgement, a_period, a_release, a_rollout
from quantry_core.datasets import DatasetPreview
from quantry_core.jobs import EventKind, InputRole, JobInput, JobResult, JobStatus
from quantry_core.rollouts import AttachedAdapter, Deployment, Replica, ReplicaState, RolloutState
from quantry_core.schedules import MissedPolicy, OverlapPolicy, Schedule
from quantry_core.stored_modules import StoredModule, StoredModules
from quantry_core.version_notes import VersionNotes
from quantry_core.versions import EdgeRole, EvidenceKind, LineageEdge, Verdict, VersionState
from quantry_core.workers import Device, Worker

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def hostile(field: str) -> str:
    """Returns what somebody wrote into a field."""
    return f"{field}<img src=x onerror=globalThis.owned='{field}'></textarea></script><b>bold</b>{{{{ 7*7 }}}}`${{7*7}}`"


def a_hostile_job(api: JobApi) -> str:
    """Keeps a failed job of a pipeline, and returns where its page is."""
    job = a_job(
        JobStatus.FAILED,
        spec=a_spec(hostile("base")),
        message=hostile("message"),
        labels={hostile("label"): hostile("value")},
        metadata={"note": hostile("metadata")},
        inputs=[JobInput(role=InputRole.BASE, ref=hostile("ref"))],
        result=JobResult(metrics={hostile("metric"): hostile("figure")}),
    )
    job = api.add(job)
    api.logs[job.id] = [hostile("line")]
    api.tell(job, EventKind.NOTE, text=hostile("event"))
    api.work.add_pipeline(hostile("pipeline"), {hostile("step"): api.add(a_job(spec=a_spec(hostile("stepped"))))})
    return f"/jobs/{job.id}"


def a_hostile_registry(api: JobApi) -> tuple[str, str, str]:
    """Keeps two versions and a dataset, and returns the pages of the second, of both, and of the dataset."""
    master = a_version(1)
    dataset = a_dataset("notes")
    api.registry.datasets[dataset.id] = dataset
    api.registry.previews[dataset.id] = DatasetPreview(
        dataset_id=dataset.id, ref=dataset.ref, kind=dataset.kind, items=[{hostile("column"): hostile("cell")}], has_more=False
    )
    version = a_version(
        2,
        master.model_name,
        base=master,
        scheme=hostile("scheme"),
        state=VersionState.QUARANTINED,
        recipe={hostile("setting"): hostile("set")},
        toolchain={hostile("library"): hostile("release")},
        edges=[
            LineageEdge(role=EdgeRole.BASE, parent_version_id=master.id),
            LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id=dataset.id),
        ],
    )
    found = evidence_of(
        version, EvidenceKind.GATE, "quality", Verdict.FAIL, problems=[hostile("problem")], corpora={CORPUS: {"nll_mean": 1.0}}
    )
    version = version.model_copy(update={"evidence": [found]})
    api.registry.add(master, version)
    api.registry.notes[version.id] = VersionNotes(
        version_id=version.id, tags={hostile("tag"): hostile("tagged")}, notes=hostile("notes"), updated_at=NOW
    )
    module = StoredModule(name=hostile("module"), bits_per_weight=4, stored_as=hostile("stored"), size_bytes=1)
    api.registry.modules[version.id] = StoredModules(version_id=version.id, data=[module])
    api.registry.modules[master.id] = StoredModules(version_id=master.id, data=[])
    return f"/versions/{version.id}", f"/compare?a={master.id}&b={version.id}", f"/datasets/{dataset.id}"


def a_hostile_deployment(api: JobApi) -> None:
    """Keeps a deployment named chat with a paused rollout."""
    judgement = a_judgement()
    findings = [finding.model_copy(update={"message": hostile("finding")}) for finding in judgement.findings]
    rollout = a_rollout(
        RolloutState.PAUSED,
        note=hostile("noted"),
        message=hostile("paused"),
        judgement=judgement.model_copy(update={"findings": findings}),
    )
    current = a_release(1, version_ref=hostile("served"))
    replica = Replica(id="rep_1", release_id=current.id, ordinal=0, state=ReplicaState.READY, message=hostile("replica"), updated_at=NOW)
    adapter = AttachedAdapter(
        id="ada_1",
        project_id="prj_1",
        deployment_id="dep_1",
        name="odd",
        version_id="ver_2",
        version_ref=hostile("adapted"),
        message=hostile("unloaded"),
        created_at=NOW,
    )
    deployment = Deployment(
        id="dep_1",
        project_id="prj_1",
        name="chat",
        current_release=current,
        active_rollout=rollout,
        replicas=[replica],
        adapters=[adapter],
        is_stopped=False,
        created_at=NOW,
    )
    with api.lock:
        api.deployments.append(deployment)
        api.serving.rollouts[ROLLOUT_ID] = rollout
        api.serving.periods["chat"] = [a_period(1, {1: 100}, note=hostile("period"), ended_at=None)]


def hostile_work(api: JobApi) -> None:
    """Keeps a worker with a GPU, and a schedule."""
    worker: dict[str, Any] = {"id": "wrk_1", "pid": 1, "num_slots": 2, "is_alive": False, "started_at": NOW, "last_seen_at": NOW}
    gpu = Device(id="0", name=hostile("gpu"))
    with api.lock:
        api.work.workers.append(Worker(**worker, host=hostile("host"), version="1", queues=["cpu"], environments={}, devices=[gpu]))
        api.work.schedules.append(
            Schedule(
                id="sch_1",
                project_id="prj_1",
                name=hostile("schedule"),
                cron="0 4 * * *",
                time_zone=hostile("zone"),
                template={"kind": "job", "submission": {"spec": {"type": hostile("type")}}},
                overlap=OverlapPolicy.SKIP,
                missed=MissedPolicy.SKIP,
                is_paused=False,
                next_run_at=NOW,
                created_at=NOW,
            )
        )


def test_nothing_that_people_wrote_is_markup_or_runs(visit: Visit, api: JobApi) -> None:
    job = a_hostile_job(api)
    version, comparison, dataset = a_hostile_registry(api)
    a_hostile_deployment(api)
    hostile_work(api)
    [pipeline] = api.work.pipelines
    written = {
        "/jobs": ("base",),
        job: ("base", "message", "label", "value", "metadata", "ref", "metric", "figure", "line", "event"),
        "/pipelines": ("pipeline",),
        f"/pipelines/{pipeline}": ("pipeline", "step", "stepped"),
        version: ("scheme", "setting", "set", "library", "release", "problem", "tag", "tagged", "notes"),
        comparison: ("scheme", "setting", "set", "library", "release", "module", "stored"),
        dataset: ("column", "cell"),
        "/deployments": ("served", "finding", "noted", "paused", "replica", "adapted", "unloaded"),
        "/deployments/chat": ("served", "period"),
        "/": ("base", "message", "host", "paused", "served", "schedule"),
        "/workers": ("host", "gpu"),
        "/schedules": ("schedule", "zone", "type"),
        f"/sign-in/nowhere/{hostile('address')}": (),
        f"/jobs?labels={hostile('selector')}&status={hostile('status')}": ("status",),
    }
    page = visit.sign_in(OPERATOR_KEY)
    for path, fields in written.items():
        visit.go(path)
        for field in fields:
            expect(page.locator("body"), f"{field} on {path}").to_contain_text(hostile(field))
        assert page.evaluate("globalThis.owned ?? ''") == ""
        assert page.locator("#content img, #content b").count() == 0, path
    visit.complaints.clear()
