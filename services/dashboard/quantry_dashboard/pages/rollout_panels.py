"""What is shown of one rollout, on the page of deployments and on its own: shares, steps, verdict, findings, traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from quantry_core.rollouts import Release, Rollout, ServingPeriod
from quantry_core.traffic import RolloutTraffic
from quantry_core.verdicts import Finding, Judgement
from quantry_dashboard import words
from quantry_dashboard.facts import Fact
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.charts import Chart
from quantry_dashboard.pages.panels import TableRow, add_table
from quantry_dashboard.rollouts import (
    TRAFFIC_HEADINGS,
    VERDICT_CLASSES,
    counts_text,
    interval_place,
    interval_text,
    planned,
    rollout_facts,
    stage_text,
    steps_options,
    traffic_rows,
)
from quantry_dashboard.serving import Part, parts_text


class ShareBar:
    """A bar of the shares, with what each is below it."""

    def __init__(self) -> None:
        self._shown: Sequence[Part] | None = None
        self._root = Node("div", classes="shares")

    def show(self, parts: Sequence[Part]) -> None:
        """Shows shares."""
        if parts == self._shown:
            return
        self._shown = parts
        self._root.clear()
        with self._root:
            with Node("div", classes="share-bar", role="img", aria_label=parts_text(parts)):
                for part in parts:
                    Node("div", classes=f"part {part.role}").shape(f"width: {part.percent}%")
            with Node("div", classes="share-words"):
                for part in parts:
                    Node("span", f"{part.percent}% {part.role}: {part.label}", classes=f"key-of {part.role}")
                if not parts:
                    Node("span", "nothing is served", classes="dim")


class FactList:
    """Names with their texts, drawn anew when one has changed."""

    def __init__(self) -> None:
        self._shown: list[Fact] = []
        self._root = Node("dl", classes="facts")

    def show(self, facts: list[Fact]) -> None:
        """Shows facts."""
        if facts == self._shown:
            return
        self._shown = facts
        self._root.clear()
        with self._root:
            for fact in facts:
                Node("dt", fact.name)
                with Node("dd"):
                    Node("span", fact.text) if fact.href is None else link(fact.text, fact.href)


class Steps:
    """The candidate's share over time, planned and done. Hidden where a strategy plans none."""

    def __init__(self) -> None:
        self._chart = Chart("chart low")

    def show(self, rollout: Rollout, periods: Sequence[ServingPeriod], now: datetime) -> None:
        """Draws where a rollout was when."""
        if not planned(rollout):
            self._chart.hide()
            return
        self._chart.show(
            steps_options(rollout, periods, now), f"Share of the candidate over time, planned and as it was: {stage_text(rollout)}"
        )


class Findings:
    """The verdict, and what each rule found, with its interval beside its bound."""

    def __init__(self) -> None:
        self._shown: Judgement | None = None
        self._root = Node("div", classes="findings", hidden="hidden")

    def show(self, judgement: Judgement | None) -> None:
        """Shows the last look at the evidence."""
        if judgement == self._shown:
            return
        self._shown = judgement
        self._root.show_if(judgement is not None)
        self._root.clear()
        if judgement is None:
            return
        with self._root:
            with Node("div", classes="heading"):
                Node("h3", "Verdict")
                Node("span", judgement.verdict, classes=f"status {VERDICT_CLASSES[judgement.verdict]}")
                Node("span", words.moment_text(judgement.made_at), classes="dim")
            for finding in judgement.findings:
                _add_finding(finding)


class Traffic:
    """What was measured of both releases. Hidden while there is nothing."""

    def __init__(self) -> None:
        self._shown: RolloutTraffic | None = None
        self._root = Node("div", hidden="hidden")

    def show(self, traffic: RolloutTraffic | None) -> None:
        """Shows a table of both."""
        if traffic == self._shown:
            return
        self._shown = traffic
        self._root.show_if(traffic is not None)
        self._root.clear()
        if traffic is None:
            return
        with self._root:
            since = "" if traffic.since is None else f" since {words.moment_text(traffic.since)}"
            Node("h3", f"Traffic{since}")
            add_table("Traffic", TRAFFIC_HEADINGS, (TableRow(row[0], row[1:]) for row in traffic_rows(traffic)))


class RolloutBody:
    """All that is shown of a rollout below its heading."""

    def __init__(self) -> None:
        with Node("div", classes="rollout"):
            with Node("div", classes="column"):
                self._facts = FactList()
                self._steps = Steps()
            with Node("div", classes="column"):
                self._findings = Findings()
                self._traffic = Traffic()

    def show(
        self,
        rollout: Rollout,
        releases: Mapping[str, Release],
        periods: Sequence[ServingPeriod],
        traffic: RolloutTraffic | None,
        now: datetime,
    ) -> None:
        """Shows a rollout as it is now. ``releases``: the deployment's, by id; ``periods``: what it served, newest first."""
        self._facts.show(rollout_facts(rollout, releases))
        self._steps.show(rollout, periods, now)
        self._findings.show(rollout.judgement)
        self._traffic.show(traffic)


def _add_finding(finding: Finding) -> None:
    with Node("div", classes="finding"):
        with Node("div", classes="finding-head"):
            Node("span", finding.rule.replace("_", " "), classes="rule")
            Node("span", finding.verdict, classes=f"status {VERDICT_CLASSES[finding.verdict]}")
            Node("span", counts_text(finding), classes="dim")
        Node("p", finding.message)
        place = interval_place(finding)
        if place is not None:
            text = interval_text(finding)
            with Node("div", classes="interval", role="img", aria_label=text, title=text):
                Node("div", classes=f"range {finding.verdict}").shape(f"left: {place.left:.2f}%; width: {place.width:.2f}%")
                Node("div", classes="bound").shape(f"left: {place.bound:.2f}%")
            Node("p", text, classes="dim interval-words")
