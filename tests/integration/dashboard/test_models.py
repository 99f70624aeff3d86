"""Models, versions and comparisons in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from factories.browser import PHONE, Visit
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi
from factories.registry_api import CORPUS, a_dataset, a_version, with_quality
from quantry_core.aliases import Alias
from quantry_core.stored_modules import StoredModule, StoredModules
from quantry_core.version_notes import VersionNotes
from quantry_core.versions import EdgeRole, LineageEdge, Verdict, VersionDetail, VersionState

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def a_family(api: JobApi, num_quantized: int = 4) -> list[VersionDetail]:
    """Keeps a master and what was quantized from it, the last of it quarantined, and returns them."""
    master, calibration = a_version(1), a_dataset("kjv.calibration")
    api.registry.datasets[calibration.id] = calibration
    edges = [
        LineageEdge(role=EdgeRole.BASE, parent_version_id=master.id),
        LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id=calibration.id),
    ]
    family = [master]
    for number in range(2, num_quantized + 2):
        is_bad = number == num_quantized + 1
        made = a_version(
            number,
            base=master,
            weights_bytes=3_000_000 + 400_000 * number,
            state=VersionState.QUARANTINED if is_bad else VersionState.READY,
            edges=edges,
        )
        ratio = 1.2 if is_bad else 1.02 - number / 1000
        family.append(with_quality(made, ratio, verdict=Verdict.FAIL if is_bad else Verdict.PASS))
    api.registry.add(*family)
    return family


def dialog(page: Page, name: str) -> None:
    """Waits for a question to be asked."""
    expect(page.get_by_role("dialog", name=name)).to_be_visible()


def test_models_lead_to_versions_and_the_front_of_the_best(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/models")
    expect(page.get_by_text("There are no models yet")).to_be_visible()
    family = a_family(api)
    api.registry.aliases["production"] = Alias(model_name="bard-6m", alias="production", version_id=family[2].id, updated_at=NOW)
    page.reload()
    row = page.get_by_role("table", name="Models").get_by_role("row").filter(has_text="bard-6m")
    expect(row).to_contain_text("production → @3")
    expect(row).to_contain_text("@5")
    row.get_by_role("link").click()
    page.wait_for_url("**/models/bard-6m")
    expect(page.get_by_role("table", name="Pareto front").locator("tbody tr")).to_have_count(4)
    front = page.get_by_role("table", name="Pareto front")
    expect(front.locator("tbody tr").first).to_contain_text("bard-6m@2")
    expect(front).not_to_contain_text("bard-6m@5")
    chart = page.get_by_role("img").filter(has=page.locator("svg")).first
    expect(chart).to_have_attribute(
        "aria-label",
        f"perplexity ratio on {CORPUS} against bard-6m@1, by weights: 5 versions. On the Pareto "
        "front: bard-6m@2, bard-6m@3, bard-6m@4, bard-6m@1.",
    )
    page.locator("select[name=y]").select_option("top1_agreement")
    page.wait_for_url("**/models/bard-6m?y=top1_agreement")
    expect(page.get_by_role("table", name="Pareto front")).to_contain_text("top-1 agreement")
    versions = page.get_by_role("table", name="Versions")
    expect(versions.locator("tbody tr")).to_have_count(5)
    expect(versions.get_by_role("row").filter(has_text="bard-6m@3")).to_contain_text("production")
    expect(versions.get_by_role("row").filter(has_text="bard-6m@5")).to_contain_text("quarantined")
    page.get_by_label("State").select_option("quarantined")
    page.wait_for_url("**/models/bard-6m?state=quarantined&y=top1_agreement")
    expect(page.get_by_role("table", name="Versions").locator("tbody tr")).to_have_count(1)


def test_a_point_of_the_chart_leads_to_its_version(visit: Visit, api: JobApi) -> None:
    family = a_family(api, 2)
    page = visit.sign_in(OPERATOR_KEY, "/models/bard-6m")
    point = page.locator(".scatter-chart svg path[fill='#c98a00']").first
    point.click(force=True)
    page.wait_for_url("**/versions/ver_*")
    assert page.url.rpartition("/")[2] in {version.id for version in family}


def test_a_model_that_is_not_there_says_so(visit: Visit, api: JobApi) -> None:
    a_family(api, 1)
    page = visit.sign_in(OPERATOR_KEY, "/models/other?kind=pictures")
    expect(page.get_by_role("alert").filter(has_text="There is no model 'other'")).to_be_visible()
    expect(page.get_by_text("There is no kind 'pictures'")).to_be_visible()


def test_an_alias_is_moved_and_deleted_after_a_question(visit: Visit, api: JobApi) -> None:
    family = a_family(api)
    page = visit.sign_in(OPERATOR_KEY, "/models/bard-6m")
    page.get_by_role("button", name="Set an alias").click()
    dialog(page, "Set an alias")
    page.get_by_role("dialog").get_by_label("Alias").fill("production")
    page.get_by_role("dialog").get_by_label("Version").fill("2")
    page.get_by_role("button", name="Set it").click()
    table = page.get_by_role("table", name="Aliases", exact=True)
    expect(table).to_contain_text("bard-6m@2")
    page.get_by_role("button", name="Move alias production").click()
    dialog(page, "Move alias production?")
    page.get_by_role("dialog").get_by_label("To version").fill("bard-6m@3")
    page.get_by_role("button", name="Move it").click()
    expect(table).to_contain_text("bard-6m@3")
    page.get_by_text("History", exact=True).click()
    expect(page.get_by_role("table", name="History of the aliases").locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Delete alias production").click()
    page.get_by_role("button", name="Delete it").click()
    expect(table).to_have_count(0)
    bodies = [(method, body.get("version_id")) for method, path, body in api.registry.asked if path.endswith("/aliases/production")]
    assert bodies == [("PUT", family[1].id), ("PUT", family[2].id), ("DELETE", None)]
    page.get_by_role("button", name="Set an alias").click()
    page.get_by_role("dialog").get_by_label("Version").fill("two")
    page.get_by_role("button", name="Set it").click()
    expect(page.get_by_role("alert").filter(has_text="An alias needs a name")).to_be_visible()


def test_a_version_shows_all_that_is_known_and_nothing_of_it_is_markup(visit: Visit, api: JobApi) -> None:
    family = a_family(api)
    version = family[2]
    api.registry.notes[version.id] = VersionNotes(version_id=version.id, tags={"stage": "test"}, notes=HOSTILE, updated_at=NOW)
    api.registry.versions[version.id] = version.model_copy(update={"recipe": {"method": HOSTILE}, "toolchain": {HOSTILE: HOSTILE}})
    page = visit.sign_in(OPERATOR_KEY, f"/versions/{version.id}")
    expect(page.get_by_role("heading", name="bard-6m@3", exact=True).first).to_be_visible()
    expect(page.get_by_role("table", name="Quality").locator("tbody tr").first).to_contain_text("1.017 (1.0130 to 1.0210)")
    expect(page.get_by_role("region", name="Labels and notes")).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="Recipe")).to_contain_text(HOSTILE)
    card = page.get_by_role("region", name="Model card")
    card.locator("summary").click()
    expect(card.get_by_role("heading", name="Weights")).to_be_visible()
    assert page.locator("#content img, #content b").count() == 0
    assert page.title() != "owned"
    graph = page.get_by_role("group", name="Lineage graph")
    parents = graph.get_by_role("link")
    expect(parents).to_have_count(3)
    expect(parents.first).to_have_attribute("href", f"/versions/{family[0].id}")
    parents.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/versions/{family[0].id}")
    expect(page.get_by_role("group", name="Lineage graph").get_by_role("link")).to_have_count(5)
    expect(page.get_by_role("link", name="Quantize from here")).to_have_attribute("href", "/jobs/new?type=quantize&base=bard-6m%401")


def test_notes_are_edited_and_a_version_is_put_aside_deleted_and_restored(visit: Visit, api: JobApi) -> None:
    version = a_family(api)[1]
    page = visit.sign_in(OPERATOR_KEY, "/versions/bard-6m@2")
    notes = page.get_by_role("region", name="Labels and notes")
    page.get_by_role("button", name="Edit labels and notes").click()
    page.get_by_role("dialog").get_by_label("Labels").fill("golden stage=test")
    page.get_by_role("dialog").get_by_label("Notes").fill("Good on prose.")
    page.get_by_role("button", name="Save").click()
    expect(notes).to_contain_text("Good on prose.")
    expect(notes).to_contain_text("golden stage=test")
    header = page.get_by_role("region", name="Version", exact=True).first
    for button, confirm, state in (
        ("Archive", "Archive it", "archived"),
        ("Take back", "Make it ready", "ready"),
        ("Delete", "Delete it", "deleted"),
        ("Restore", "Restore it", "ready"),
    ):
        header.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("button", name=confirm).click()
        expect(header.locator(".status")).to_have_text(state)
    asked = [(method, path.rpartition("/")[2]) for method, path, _ in api.registry.asked]
    assert asked == [("PATCH", "notes"), ("POST", "archive"), ("POST", "unarchive"), ("DELETE", version.id), ("POST", "restore")]
    api.registry.aliases["production"] = Alias(model_name="bard-6m", alias="production", version_id=version.id, updated_at=NOW)
    header.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("alert").filter(has_text="An alias points at bard-6m@2")).to_be_visible()


def test_a_viewer_may_look_and_a_quarantined_version_says_why(visit: Visit, api: JobApi) -> None:
    version = a_family(api)[-1]
    page = visit.sign_in(VIEWER_KEY, f"/versions/{version.id}")
    expect(page.get_by_role("note")).to_contain_text(f"quality: perplexity_ratio 1.2 is more than 1.02 on {CORPUS}")
    expect(page.get_by_text("it may look, but not change anything").first).to_be_visible()
    for name in ("Delete", "Archive", "Edit labels and notes"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    assert api.registry.asked == []
    with page.expect_download() as started:
        page.get_by_role("link", name="Download model.safetensors").click()
    assert started.value.suggested_filename == "model.safetensors"
    assert started.value.path().read_text() == "bard-6m@5"


def test_files_need_a_session_and_must_be_there(visit: Visit, api: JobApi, dashboard: RunningDashboard) -> None:
    version = a_family(api, 1)[0]
    page = visit.sign_in(VIEWER_KEY, "/models")
    cookie = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    with httpx.Client(base_url=dashboard.url, trust_env=False) as client:
        answer = client.get(f"/versions/{version.id}/files/model.safetensors")
        assert (answer.status_code, answer.headers["location"].startswith("/sign-in")) == (303, True)
        client.cookies.update(cookie)
        missing = client.get(f"/versions/{version.id}/files/other.json")
        assert (missing.status_code, "no file" in missing.text) == (404, True)
        found = client.get(f"/versions/{version.id}/files/model.safetensors")
        assert (found.status_code, found.text) == (200, "bard-6m@1")
        assert found.headers["content-disposition"].startswith("attachment;")
        assert found.headers["x-content-type-options"] == "nosniff"


def test_two_versions_stand_side_by_side(visit: Visit, api: JobApi) -> None:
    family = a_family(api)
    for version, bits in ((family[0], 16.0), (family[1], 4.25)):
        data = [
            StoredModule(name=f"model.layers.{layer}.mlp.up", bits_per_weight=bits, stored_as="F16", size_bytes=1) for layer in range(2)
        ]
        api.registry.modules[version.id] = StoredModules(version_id=version.id, data=data)
    page = visit.sign_in(OPERATOR_KEY, "/compare")
    expect(page.get_by_text("Choose two versions", exact=True)).to_be_visible()
    page.get_by_label("Left").fill("bard-6m@1")
    page.get_by_label("Right").fill("bard-6m@2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?a=bard-6m@1&b=bard-6m@2")
    modules = page.get_by_role("region", name="Modules")
    expect(modules.locator("tbody tr")).to_have_count(1)
    expect(modules).to_contain_text("model.layers.*.mlp.up (2 modules)")
    expect(page.get_by_role("region", name="Recipe")).to_contain_text("group_size")
    expect(page.get_by_role("region", name="Quality")).to_contain_text(f"quality: {CORPUS}")
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_label("Left")).to_have_value("bard-6m@2")
    visit.go("/compare?a=bard-6m@1&b=bard-6m@77")
    expect(page.get_by_role("alert").filter(has_text="There is no version 'bard-6m@77'")).to_be_visible()


@pytest.mark.parametrize("path", ["/models", "/models/bard-6m", "/versions/bard-6m@3", "/compare?a=bard-6m@1&b=bard-6m@3"])
def test_a_phone_shows_everything(browser: Browser, dashboard: RunningDashboard, api: JobApi, path: str) -> None:
    a_family(api, 12)
    person = Visit(browser, dashboard.url, size=PHONE, color_scheme="dark")
    page = person.sign_in(OPERATOR_KEY, path)
    expect(page.get_by_text("bard-6m@3").or_(page.get_by_text("@13")).first).to_be_visible()
    page.get_by_text("Loading…").first.wait_for(state="hidden")
    assert person.overflow_px() == 0
    person.close()
    assert person.requests_elsewhere() + person.complaints == []
