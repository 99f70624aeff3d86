"""The pages of operations and administration in a real browser, against the real api."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from factories.browser import DESKTOP, PHONE, Visit
from factories.operations_world import OperationsWorld
from factories.threaded_server import serving_threads
from quantry.errors import ApiError
from quantry_core.audit import AuditEntry, find_break
from quantry_core.keys import Role
from quantry_core.schedules import ScheduleSubmission

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def press(page: Page, name: str, *, exact: bool = True) -> None:
    page.get_by_role("button", name=name, exact=exact).click()


def test_a_key_is_made_shown_once_rotated_and_revoked(world: OperationsWorld, look: Callable[..., Page]) -> None:
    page = look("admin", "/admin/keys")
    press(page, "New key")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("Not A Name")
    dialog.get_by_label("Role").select_option("viewer")
    dialog.get_by_label("Expires").fill("2099-01-01T12:00")
    press(page, "Make it")
    # What is wrong is said where it was entered, and what was entered stays.
    expect(dialog.get_by_role("alert")).to_contain_text("a name is made of lower-case letters")
    dialog.get_by_label("Name", exact=True).fill("laptop-of-ada")
    press(page, "Make it")
    first = dialog.locator(".secret").inner_text()
    with world.client(first) as ada:
        assert ada.whoami().role is Role.VIEWER
    press(page, "I have kept it")
    expect(dialog).to_have_count(0)
    # The server takes it out of the page once it has heard that the dialog is closed.
    expect(page.locator(".secret")).to_have_count(0)
    assert first not in page.content()
    row = page.get_by_role("row").filter(has_text="laptop-of-ada")
    expect(row).to_contain_text("works")
    press(page, "Rotate key laptop-of-ada")
    press(page, "Rotate it")
    second = dialog.locator(".secret").inner_text()
    assert second != first
    press(page, "I have kept it")
    with world.client(first) as old, pytest.raises(ApiError):
        old.whoami()
    press(page, "Revoke key laptop-of-ada")
    press(page, "Leave it")
    with world.client(second) as ada:
        assert ada.whoami().role is Role.VIEWER
    press(page, "Revoke key laptop-of-ada")
    press(page, "Revoke it")
    expect(row).to_contain_text("revoked")
    with world.client(second) as ada, pytest.raises(ApiError):
        ada.whoami()


def test_rotating_the_key_that_somebody_is_signed_in_with_shows_the_secret_and_keeps_them_in(
    world: OperationsWorld, visit: Callable[..., Visit]
) -> None:
    made = world.admin.keys.create("own", Role.ADMIN)
    page = visit().sign_in(made.secret, "/admin/keys")
    press(page, "Rotate key own")
    expect(page.get_by_role("dialog")).to_contain_text("here you stay so")
    press(page, "Rotate it")
    with world.client(page.locator(".secret").inner_text()) as own:
        assert own.whoami().key_id == made.key.id
    press(page, "I have kept it")
    press(page, "Revoke key own")
    expect(page.get_by_role("dialog")).to_contain_text("you will be signed out")
    press(page, "Revoke it")
    expect(page.get_by_role("alert")).to_contain_text("your key was revoked")


def test_the_audit_log_is_narrowed_verified_and_exported(world: OperationsWorld, look: Callable[..., Page]) -> None:
    world.admin.jobs.submit_document(
        {"spec": {"type": "import", "model": "bard", "source": str(world.source)}, "metadata": {"note": HOSTILE}}
    )
    page = look("admin", "/admin/audit?noun=nonsense&since=yesterday")
    expect(page.get_by_role("alert").filter(has_text="Since is a date")).to_be_visible()
    expect(page.get_by_text("No entry is like that")).to_be_visible()
    page.get_by_role("textbox", name="Noun").or_(page.get_by_role("searchbox", name="Noun")).fill("job")
    page.keyboard.press("Tab")
    page.wait_for_url("**/admin/audit?noun=job")
    row = page.get_by_role("row").filter(has_text="job.submit").first
    expect(row).to_contain_text("(admin)")
    press(page, "Verify the chain")
    expect(page.get_by_role("status").filter(has_text="The chain is whole")).to_contain_text("quantry audit verify --expect")
    page.get_by_role("link", name="Clear").click()
    with page.expect_download() as begun:
        page.get_by_role("link", name="JSON").click()
    entries = [AuditEntry.model_validate(one) for one in json.loads(begun.value.path().read_text())]
    # The file is enough to check the chain with.
    assert find_break(entries[::-1], after_seq=0, after_hash="0" * 64) is None
    with page.expect_download() as begun:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(begun.value.path().read_text("utf-8-sig"))))
    assert [int(one["seq"]) for one in rows] == [entry.seq for entry in entries]
    assert begun.value.suggested_filename.endswith(".csv")
    assert page.locator("#content img, #content b").count() == 0


def test_who_may_not_look_is_told_so_and_sees_nothing(world: OperationsWorld, look: Callable[..., Page]) -> None:
    for path in ("/admin/keys", "/admin/audit", "/admin/projects"):
        page = look("viewer", path)
        expect(page.get_by_text("This page is not for your key")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Admin")).to_have_count(0)
    assert page.request.get(f"{world.dashboard.url}/admin/audit/export.csv").status == 403
    look("viewer", "/admin/webhooks")
    expect(page.get_by_text("There are no webhooks yet")).to_be_visible()
    expect(page.get_by_role("button", name="New webhook")).to_have_count(0)
    look("viewer", "/workers")
    expect(page.get_by_role("region", name="Workers", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Worker hosts")).to_have_count(0)


def test_projects_are_made_bounded_and_archived(world: OperationsWorld, look: Callable[..., Page]) -> None:
    page = look("admin", "/admin/projects")
    press(page, "New project")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("search")
    dialog.get_by_label("Most running jobs").fill("many")
    press(page, "Make it")
    expect(dialog.get_by_role("alert")).to_contain_text("Most running jobs is a whole number")
    dialog.get_by_label("Most running jobs").fill("8")
    press(page, "Make it")
    with world.client(dialog.locator(".secret").inner_text()) as theirs:
        assert theirs.project.get().limits.max_running == 8
    press(page, "I have kept it")
    press(page, "Archive search")
    press(page, "Archive it")
    row = page.get_by_role("row").filter(has_text="search")
    expect(row).to_contain_text("archived")
    press(page, "Take back search")
    press(page, "Take it back")
    expect(row).to_contain_text("active")
    assert world.admin.projects.get("search").archived_at is None


def test_workers_queues_and_hosts(world: OperationsWorld, look: Callable[..., Page]) -> None:
    world.say_hello()
    page = look("admin", "/workers")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    card = page.get_by_role("region", name="Worker on gpu-host-1")
    expect(card).to_contain_text("60.0 GB of 150.0 GB · 83% busy · 61 °C · 412 W")
    expect(card.get_by_role("meter", name="0 NVIDIA H200: memory")).to_have_attribute("aria-valuenow", "40")
    queue = page.get_by_role("table", name="Queues").get_by_role("row").filter(has_text="cpu")
    num_queued = next(one.num_queued for one in world.admin.queues.list().data if one.name == "cpu")
    expect(queue.locator("td[data-label=Queued]")).to_have_text(str(num_queued))
    press(page, "Enrol a host")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name of the host").fill("rack-7")
    press(page, "Make a token")
    expect(dialog.locator(".secret")).to_have_count(2)
    command, token = dialog.locator(".secret").all_inner_texts()
    assert command == "python -m quantry_worker.enrol --url https://quantry.example --key-file /etc/quantry/worker-key"
    assert token.startswith("qte_")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    press(page, "I have kept it")
    page.get_by_text("One-time tokens").click()
    press(page, "Withdraw the token for rack-7")
    press(page, "Withdraw it")
    expect(page.get_by_role("table", name="One-time tokens")).to_contain_text("withdrawn")
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})


def test_a_schedule_is_made_by_fields_run_paused_and_deleted(world: OperationsWorld, look: Callable[..., Page]) -> None:
    job = world.admin.jobs.submit_document({"spec": {"type": "import", "model": "tales", "source": str(world.source)}})
    page = look("operator", f"/schedules/new?from={job.id}")
    expect(page.get_by_label("What it submits, as YAML *")).to_have_value(f"{_template(str(world.source))}")
    page.get_by_label("Name *").fill("nightly")
    page.get_by_label("Cron *").fill("61 2 * * *")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    times = page.get_by_role("region", name="Would fire").get_by_role("listitem")
    expect(times).to_contain_text(["cannot be read as a cron expression"])
    page.get_by_label("Cron *").fill("0 30 2 * * *")
    page.keyboard.press("Tab")
    expect(times.first).to_contain_text("02:30:00 +01:00")
    expect(times).to_have_count(8)
    press(page, "Make it")
    page.wait_for_url("**/schedules/sch_*")
    expect(page.get_by_role("heading", name="nightly")).to_be_visible()
    press(page, "Run now")
    press(page, "Run it")
    row = page.get_by_role("table", name="Runs").get_by_role("row").nth(1)
    expect(row).to_contain_text("fired")
    expect(row.get_by_role("link")).to_have_attribute("href", "/jobs/" + str(world.admin.schedules.list().data[0].last_run.job_id))  # type: ignore[union-attr]
    press(page, "Pause")
    press(page, "Pause it")
    expect(page.get_by_text("None while it is paused.")).to_be_visible()
    press(page, "Delete")
    press(page, "Delete it")
    page.wait_for_url("**/schedules")
    expect(page.get_by_text("There are no schedules yet")).to_be_visible()


def test_a_schedule_as_a_file_is_told_what_is_wrong_by_its_lines(world: OperationsWorld, look: Callable[..., Page]) -> None:
    page = look("operator", "/schedules/new?as=file")
    text = page.get_by_label("Schedule as YAML")
    expect(text).not_to_be_empty()
    text.fill("name: weekly\ncron: '0 4 * * SUN'\nevery: day\n")
    press(page, "Make it")
    expect(page.get_by_role("alert").filter(has_text="Nothing was made: see what is wrong below.")).to_be_visible()
    expect(page.get_by_role("region", name="Schedule")).to_contain_text("line 3, every: there is no such field")
    expect(text).to_have_attribute("aria-invalid", "true")
    submission = ScheduleSubmission.model_validate({"name": "weekly", "cron": "0 4 * * SUN", "template": _document(str(world.source))})
    text.fill(submission.model_dump_json())
    press(page, "Make it")
    page.wait_for_url("**/schedules/sch_*")
    world.admin.schedules.delete(page.url.rpartition("/")[2])


def test_a_webhook_is_made_tested_and_its_messages_looked_at(world: OperationsWorld, look: Callable[..., Page]) -> None:
    got: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(HOSTILE)))
            self.end_headers()
            self.wfile.write(HOSTILE.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with serving_threads(Receiver) as url:
        page = look("operator", "/admin/webhooks")
        press(page, "New webhook")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name", exact=True).fill("on-call")
        dialog.get_by_label("Address", exact=True).fill(f"{url}/hook")
        press(page, "Make it")
        assert dialog.locator(".secret").inner_text().startswith("whsec_")
        press(page, "I have kept it")
        page.get_by_role("link", name="on-call").click()
        press(page, "Send a test")
        message = page.get_by_role("region", name="Message", exact=True)
        expect(message).to_contain_text("delivered")
        expect(message.get_by_role("table", name="Attempts")).to_contain_text(HOSTILE)
        # The message that is open has an address of its own.
        page.wait_for_url("**/admin/webhooks/whk_*?message=*")
        page.reload()
        expect(message.get_by_role("table", name="Attempts")).to_contain_text(HOSTILE)
        row = page.get_by_role("table", name="Messages").get_by_role("row").nth(1)
        expect(row).to_contain_text("answered 200")
        page.get_by_role("button", name="Redeliver").click()
        expect(row.locator("td[data-label=Attempts]")).to_have_text("2")
        assert [one["type"] for one in got] == ["ping", "ping"]
        press(page, "Rotate secret")
        press(page, "Rotate it")
        assert dialog.locator(".secret").inner_text().startswith("whsec_")
        press(page, "I have kept it")
        press(page, "Delete")
        press(page, "Delete it")
        page.wait_for_url("**/admin/webhooks")
        expect(page.get_by_text("There are no webhooks yet")).to_be_visible()
    assert page.locator("#content img, #content b").count() == 0


def _document(source: str) -> dict[str, Any]:
    return {"kind": "job", "submission": {"spec": {"type": "import", "model": "tales", "source": source}}}


def _template(source: str) -> str:
    spec = f"  spec:\n    type: import\n    model: tales\n    source: {source}\n"
    return f"kind: job\nsubmission:\n{spec}  priority: 5\n  resource: cpu\n"
