"""One person's way through the dashboard, from the sign-in to a canary that is rolled back: only what is seen is clicked and typed at."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page, expect

from factories.browser import Visit

MAX_TABS = 120
"""Presses of the Tab key on the way to one control."""

PARTS = """(bar) => {
  const whole = bar.getBoundingClientRect();
  const inside = [...bar.children].map((part) => part.getBoundingClientRect()).filter((part) => part.top === whole.top);
  return inside.map((part) => Math.round(100 * part.width / whole.width));
}"""
"""The percent of a bar that each of its parts fills, as it is drawn."""


@dataclass(frozen=True)
class Recipe:
    """What is filled into the form of a quantize job."""

    method: str
    scheme: str
    calibration: tuple[str, ...] = ()
    """Names of datasets; none: the method needs no text."""


@dataclass(frozen=True)
class Walk:
    """Who walks, and how long jobs and engines may take here. After each part something may be looked at: ``look`` gets its name."""

    visit: Visit
    api_key: str
    model: str
    deployment: str
    """Serves an older release."""

    recipe: Recipe
    job_s: float
    engine_s: float
    look: Callable[[str], None] = lambda _part: None

    @property
    def page(self) -> Page:
        return self.visit.page

    def go(self) -> None:
        """Goes all the way; fails where anything is not as a person would find it."""
        self.sign_in()
        master = self.find_master()
        self.quantize_by_keyboard(master)
        made = self.follow_job()
        self.open_lineage(made, master)
        self.compare(made, master)
        self.deploy_canary(made)
        self.watch_shares(made)
        self.roll_back_by_keyboard()
        self.sign_out()

    def sign_in(self) -> None:
        """From the form to the overview."""
        page = self.visit.go("/")
        page.get_by_label("API key").fill(self.api_key)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(page.get_by_role("region", name="Serves").get_by_role("link", name=self.deployment, exact=True)).to_be_visible()
        self.look("overview")

    def find_master(self) -> str:
        """By way of the list of models; returns the master's name and number."""
        page = self.page
        self._to("Models")
        page.get_by_role("link", name=self.model, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(self.model)
        master = f"{self.model}@1"
        page.get_by_role("link", name=master, exact=True).first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(master)
        return master

    def quantize_by_keyboard(self, master: str) -> None:
        """From the master's page to the job's, without a pointer."""
        page = self.page
        self._tab_to("link", "Quantize from here")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/new?type=quantize*")
        expect(page.get_by_label("Base *")).to_have_value(master)
        self._type_into("Method", self.recipe.method)
        self._type_into("Scheme", self.recipe.scheme)
        if self.recipe.calibration:
            self._tab_to("checkbox", "Calibration")
            page.keyboard.press("Space")
            self._type_into("Datasets 1", self.recipe.calibration[0])
            for place, name in enumerate(self.recipe.calibration[1:], start=2):
                self._tab_to("button", "Add to datasets")
                page.keyboard.press("Enter")
                expect(page.get_by_label(f"Datasets {place}", exact=True)).to_be_visible()
                # The new field stands before the button.
                self._type_into(f"Datasets {place}", name, key="Shift+Tab")
        expect(page.get_by_role("region", name="Estimate")).to_contain_text("peak memory")
        self.look("form")
        self._tab_to("button", "Submit")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/job_*")

    def follow_job(self) -> str:
        """Watches it until it has succeeded, and returns the name and number of what it made."""
        page = self.page
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Quantize {self.model}@1")
        status = page.get_by_role("region", name="Status")
        expect(status).to_contain_text("running", timeout=self.job_s * 1000)
        bar = "document.querySelector('[role=progressbar]')"
        page.wait_for_function(f"Number({bar}?.ariaValueNow ?? 0) > 0", timeout=self.job_s * 1000)
        before = int(page.get_by_role("progressbar").get_attribute("aria-valuenow") or 0)
        # It moves, or is over and gone, without anybody asking again.
        page.wait_for_function(f"{bar} === null || {bar}.closest('[hidden]') || {bar}.ariaValueNow > {before}", timeout=self.job_s * 1000)
        self.look("job")
        expect(status).to_contain_text("succeeded", timeout=self.job_s * 1000)
        expect(page.get_by_role("region", name="Events").get_by_role("listitem").first).to_contain_text("succeeded")
        page.get_by_role("region", name="Result").get_by_role("link", name=re.compile("^ver_")).click()
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text(re.compile(rf"^{re.escape(self.model)}@\d+$"))
        self.look("version")
        return heading.inner_text()

    def open_lineage(self, made: str, master: str) -> None:
        """To the master at the root of the graph, and from its graph back."""
        page = self.page
        graph = page.get_by_role("group", name="Lineage graph")
        expect(
            graph.get_by_role("link", name=f"version {made}, this version: quantized, ready, made from {master} as base")
        ).to_be_visible()
        graph.get_by_role("link", name=re.compile(f"^version {re.escape(master)}: master")).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(master)
        graph.get_by_role("link", name=re.compile(f"^version {re.escape(made)}: quantized")).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(made)

    def compare(self, made: str, master: str) -> None:
        """With the master, and back."""
        page = self.page
        page.get_by_role("link", name="Compare with the master").click()
        expect(page.get_by_role("table", name="Size").get_by_role("columnheader", name=made)).to_be_visible()
        expect(page.get_by_role("table", name="What they are")).to_contain_text("quantized")
        expect(page.get_by_role("region", name="Both")).to_contain_text(f"{made} was made from {master}.")
        self.look("comparison")
        page.get_by_role("region", name="Both").get_by_role("link", name=made, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(made)

    def deploy_canary(self, made: str) -> None:
        """By the form: a tenth for a moment, half until somebody says more."""
        page = self.page
        page.get_by_role("link", name="Deploy", exact=True).click()
        expect(page.get_by_label("Version *")).to_have_value(made)
        page.get_by_label("Deployment *").fill(self.deployment)
        page.get_by_label("Strategy", exact=True).select_option("canary")
        first, second = (page.get_by_role("group", name=f"Steps {number}", exact=True) for number in (1, 2))
        expect(first.get_by_label("Percent")).to_have_value("10")
        first.get_by_text("More").click()
        first.get_by_label("Wait (s)").fill("2")
        first.get_by_label("Analysis").uncheck()
        expect(second.get_by_label("Percent")).to_have_value("50")
        second.get_by_text("More").click()
        second.get_by_label("Analysis").uncheck()
        second.get_by_label("Pause").check()
        self.look("deploy")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url("**/jobs/job_*")
        expect(page.get_by_role("heading", level=1)).to_contain_text(self.deployment)

    def watch_shares(self, made: str) -> None:
        """From the job to the rollout, and there until both releases serve half of the requests."""
        page = self.page
        page.get_by_role("region", name="Spec").get_by_role("link", name=self.deployment, exact=True).click()
        page.get_by_role("group", name=f"Rollout of {self.deployment}").get_by_role("link", name="Rollout").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Rollout of {self.deployment}")
        share = page.get_by_role("region", name="Status").get_by_role("img")
        expect(share).to_have_attribute("aria-label", re.compile(rf"^90% .*, 10% .*{re.escape(made)}$"), timeout=self.engine_s * 1000)
        expect(share).to_have_attribute("aria-label", re.compile(rf"^50% .*, 50% .*{re.escape(made)}$"), timeout=self.engine_s * 1000)
        # The bar is drawn as it is said: its parts are in it, side by side.
        page.wait_for_function(f"({PARTS})(document.querySelector('.share-bar')).join() === '50,50'")
        expect(page.get_by_role("region", name="Status")).to_contain_text("paused")
        expect(page.get_by_role("region", name="Changes").locator("tbody tr")).to_have_count(2)
        self.look("rollout")

    def roll_back_by_keyboard(self) -> None:
        """Without a pointer, through the question that is asked first; all requests then go where they went before."""
        page = self.page
        status = page.get_by_role("region", name="Status")
        self._tab_to("button", "Roll back")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Roll this rollout back?")).to_be_visible()
        self.look("question")
        self._tab_to("button", "Roll it back")
        page.keyboard.press("Enter")
        expect(status).to_contain_text("rolled back")
        expect(status.get_by_role("img")).to_have_attribute("aria-label", re.compile("^100% release 1 "))
        self.look("rolled-back")

    def sign_out(self) -> None:
        """After which no page opens."""
        self.page.get_by_role("button", name="Sign out").click()
        self.page.wait_for_url("**/sign-in*")
        self.visit.go(f"/deployments/{self.deployment}")
        expect(self.page.get_by_label("API key")).to_be_visible()

    def _to(self, place: str) -> None:
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=place, exact=True).click()

    def _type_into(self, label: str, text: str, *, key: str = "Tab") -> None:
        self._tab_to("textbox", label, key=key)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def _tab_to(self, role: str, name: str, *, key: str = "Tab") -> None:
        """Presses Tab until that control has the focus."""
        # A field with suggestions is a combobox to those who hear the page.
        roles = ("textbox", "combobox") if role == "textbox" else (role,)
        page = self.page
        wanted = page.get_by_role(roles[0], name=name)  # type: ignore[arg-type]  # a role is any of a long list of words
        for other in roles[1:]:
            wanted = wanted.or_(page.get_by_role(other, name=name))  # type: ignore[arg-type]
        expect(wanted.first).to_be_visible()
        focused = wanted.and_(page.locator(":focus"))
        for _ in range(MAX_TABS):
            page.keyboard.press(key)
            if focused.count():
                return
        raise AssertionError(f"the {role} {name!r} is not reached by {MAX_TABS} presses of {key}")
