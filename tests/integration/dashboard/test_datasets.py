"""Datasets in a real browser: looked at, uploaded, fetched, deleted and restored."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import expect

from factories.browser import PHONE, Visit
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi, a_job
from factories.registry_api import a_dataset, a_version
from quantry_core.datasets import DatasetKind, DatasetOrigin, DatasetPreview
from quantry_core.jobs import InputRole, JobInput, JobStatus
from quantry_core.versions import EdgeRole, LineageEdge

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def test_datasets_are_filtered_and_one_shows_what_it_is_and_was_used_for(visit: Visit, api: JobApi) -> None:
    notes, text = a_dataset("notes"), a_dataset("kjv", kind=DatasetKind.TEXT, origin=DatasetOrigin.BUILT_IN)
    api.registry.datasets.update({one.id: one for one in (notes, text)})
    rows = [{"text": HOSTILE}, {"text": "In the beginning"}]
    api.registry.previews[notes.id] = DatasetPreview(dataset_id=notes.id, ref=notes.ref, kind=notes.kind, items=rows, has_more=True)
    master = a_version(1)
    edges = [
        LineageEdge(role=EdgeRole.BASE, parent_version_id=master.id),
        LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id=notes.id),
    ]
    api.registry.add(master, a_version(2, base=master, edges=edges))
    job = api.add(a_job(JobStatus.SUCCEEDED, inputs=[JobInput(role=InputRole.CORPUS, ref="notes", dataset_id=notes.id)]))
    api.add(a_job(JobStatus.SUCCEEDED))
    page = visit.sign_in(OPERATOR_KEY, "/datasets")
    table = page.get_by_role("table", name="Datasets")
    expect(table.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Origin").select_option("uploaded")
    page.wait_for_url("**/datasets?origin=uploaded")
    expect(table.locator("tbody tr")).to_have_count(1)
    table.get_by_role("link", name="notes@1").click()
    page.wait_for_url(f"**/datasets/{notes.id}")
    expect(page.get_by_role("table", name="First rows")).to_contain_text(HOSTILE)
    assert page.locator("#content img, #content b").count() == 0
    expect(page.get_by_role("table", name="Versions that were made with it")).to_contain_text("bard-6m@2")
    expect(page.get_by_role("table", name="Jobs that were given it").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name=job.id[-8:])).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    assert started.value.suggested_filename == "notes-1.jsonl"
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert visit.overflow_px() == 0


def test_a_dataset_is_deleted_and_restored_after_a_question(visit: Visit, api: JobApi) -> None:
    notes = a_dataset("notes")
    api.registry.datasets[notes.id] = notes
    page = visit.sign_in(OPERATOR_KEY, f"/datasets/{notes.id}")
    header = page.get_by_role("region", name="Dataset", exact=True).first
    header.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(header.locator(".status")).to_have_text("deleted")
    expect(header.get_by_role("link", name="Download")).to_be_hidden()
    header.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_role("button", name="Restore it").click()
    expect(header.get_by_role("link", name="Download")).to_be_visible()
    assert [method for method, _, _ in api.registry.asked] == ["DELETE", "POST"]


def test_a_file_is_uploaded_by_the_form(visit: Visit, api: JobApi, tmp_path: Path) -> None:
    file = tmp_path / "My Notes.jsonl"
    file.write_text('{"text": "some words"}\n' * 10)
    page = visit.sign_in(OPERATOR_KEY, "/datasets")
    expect(page.get_by_text("There are no datasets yet")).to_be_visible()
    page.get_by_role("button", name="Upload").click()
    form = page.get_by_role("dialog", name="Upload a dataset")
    form.locator("input[type=file]").set_input_files(file)
    expect(form.get_by_label("Name")).to_have_value("my-notes")
    form.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets/dat_*")
    expect(page.get_by_role("heading", name="my-notes@1")).to_be_visible()
    [dataset] = api.registry.datasets.values()
    assert api.registry.contents[dataset.sha256] == file.read_bytes()


def test_what_cannot_be_uploaded_is_refused_before_it_is_read(visit: Visit, dashboard: RunningDashboard, api: JobApi) -> None:
    page = visit.sign_in(VIEWER_KEY, "/datasets")
    expect(page.get_by_text("There are no datasets yet")).to_be_visible()
    expect(page.get_by_role("button", name="Upload")).to_have_count(0)
    cookie = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    with httpx.Client(base_url=dashboard.url, trust_env=False) as client:
        assert client.put("/datasets/upload?name=x", content=b"words").status_code == 401
        client.cookies.update(cookie)
        refused = client.put("/datasets/upload?name=x", content=b"words")
        assert (refused.status_code, "may look" in refused.json()["problem"]) == (422, True)
        elsewhere = client.put("/datasets/upload?name=x", content=b"words", headers={"origin": "http://elsewhere"})
        assert elsewhere.status_code == 403
    assert api.registry.asked == []
