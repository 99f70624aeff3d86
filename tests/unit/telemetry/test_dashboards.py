"""Grafana's dashboards and Prometheus's rules: what they ask for exists, and what they say is written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from factories.expositions import expositions, families, sample_names

ROOT = Path(__file__).parents[3]
DASHBOARDS = sorted((ROOT / "helm/quantry/dashboards").glob("*.json"))
ALERTS = sorted((ROOT / "helm/quantry/alerts").glob("*.yaml"))
DOCS = ROOT / "docs/observability.md"

FUNCTIONS = {
    *("rate", "increase", "delta", "sum", "max", "min", "count", "histogram_quantile", "absent", "time", "vector", "max_over_time"),
    *("by", "on", "group_left", "and", "or", "unless"),
}
BY_PROMETHEUS = {"up"}
"""Metrics that Prometheus makes itself."""
GRAFANA_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
LABEL_NAMES = re.compile(r"\b(?:by|on|group_left)\s*\(([^()]*)\)")
DURATION = re.compile(r"\[(?:\$__rate_interval|\d+(?:ms|[smhdw]))\]")


def exported() -> set[str]:
    return {name for text in expositions().values() for name in sample_names(text)} | BY_PROMETHEUS


def panels(path: Path) -> Iterator[dict[str, Any]]:
    for panel in json.loads(path.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", [])


def panel_queries() -> list[tuple[str, str]]:
    return [
        (f"{path.stem}: {panel['title']}", target["expr"])
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel.get("targets", [])
    ]


def rules() -> list[dict[str, Any]]:
    return [rule for path in ALERTS for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def names_in(query: str) -> set[str]:
    """Returns the metrics that a query asks for; fails where the query is not one, as far as that can be told without Prometheus."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    assert plain.count('"') % 2 == 0, query
    open_ones: list[str] = []
    pairs = {")": "(", "]": "[", "}": "{"}
    for letter in plain:
        if letter in pairs.values():
            open_ones.append(letter)
        elif letter in pairs:
            assert open_ones and open_ones.pop() == pairs[letter], query
    assert not open_ones, query
    assert len(re.findall(r"\[", plain)) == len(DURATION.findall(plain)), query
    for matchers in re.findall(r"{([^}]*)}", plain):
        assert all(re.fullmatch(r'\s*\w+\s*(=|!=|=~|!~)\s*""\s*', one) for one in matchers.split(",")), query
    bare = LABEL_NAMES.sub(" ", re.sub(r"{[^}]*}", "", DURATION.sub("", plain)))
    assert not re.search(r"[+*/<>=-]\s*$|^\s*[*/<>=]|\(\s*\)(?<!time\(\))(?<!\(\))", bare), query
    words = set(re.findall(r"(?<![\w.])[a-zA-Z_]\w*", bare))
    calls = set(re.findall(r"([a-zA-Z_]\w*)\s*\(", bare))
    assert calls <= FUNCTIONS, (query, calls - FUNCTIONS)
    return words - FUNCTIONS


@pytest.mark.parametrize("query", ["sum(rate(a_total[5m])", 'a{b="c}', "sum by (x) (a) >", "rate(a_total[5])", "a{b}", "avg_of(a)", "* a"])
def test_the_check_finds_broken_queries(query: str) -> None:
    with pytest.raises(AssertionError):
        names_in(query)


def test_the_check_reads_queries() -> None:
    query = (
        'histogram_quantile(0.95, sum by (le) (rate(a_bucket{x=~"b.*",y!="z"}[10m]))) > 5 and on (job) b unless c * on (d) group_left (e) f'
    )
    assert names_in(query) == {"a_bucket", "b", "c", "f"}


def test_there_are_queries_to_check() -> None:
    assert [path.stem for path in DASHBOARDS] == ["quantry-jobs", "quantry-platform", "quantry-serving"]
    assert (len(panel_queries()) > 60, len(rules()) >= 35) == (True, True)


@pytest.mark.parametrize(("where", "query"), panel_queries())
def test_a_panel_asks_for_what_is_exported(where: str, query: str) -> None:
    names = names_in(query)
    assert names, where
    assert names <= exported(), f"{where} asks for {names - exported()}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_exported(rule: dict[str, Any]) -> None:
    names = names_in(rule["expr"])
    assert names and names <= exported(), names - exported()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_reads(path: Path) -> None:
    document = json.loads(path.read_text())
    assert (document["uid"], document["tags"], document["schemaVersion"] >= 39) == (path.stem, ["quantry"], True)
    assert document["title"].startswith("Quantry: ") and document["description"]
    variables = {variable["name"] for variable in document["templating"]["list"]}
    assert "datasource" in variables
    ids = [panel["id"] for panel in panels(path)]
    cells: set[tuple[int, int]] = set()
    assert len(ids) == len(set(ids))
    for panel in panels(path):
        place = panel["gridPos"]
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not covered & cells, panel["title"]
        cells |= covered
        if panel["type"] == "row":
            continue
        assert panel["type"] in {"timeseries", "stat"} and panel["title"] and panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            used = {name for name in GRAFANA_VARIABLE.findall(target["expr"]) if not name.startswith("__")}
            assert used <= variables, panel["title"]


def test_variables_are_filled_from_what_is_exported() -> None:
    asked = [
        variable for path in DASHBOARDS for variable in json.loads(path.read_text())["templating"]["list"] if variable["type"] == "query"
    ]
    for variable in asked:
        found = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"]["query"])
        assert found is not None and found.group(1) in exported()


def test_rules_are_complete_and_their_runbooks_written() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in DOCS.read_text().splitlines()
        if line.startswith("#")
    }
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert re.fullmatch(r"Quantry([A-Z][a-z]+)+", rule["alert"]) and re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"] == {"severity": rule["labels"]["severity"]} and rule["labels"]["severity"] in {"info", "warning", "critical"}
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}
        assert notes["summary"] and not notes["summary"].endswith(".") and notes["description"].endswith(".")
        address, _, anchor = notes["runbook_url"].partition("#")
        assert address.endswith("/docs/observability.md") and anchor in headings, anchor


def test_what_may_vanish_is_watched_by_absent() -> None:
    absent = {rule["expr"] for rule in rules() if "absent(" in rule["expr"]}
    assert {f'absent(quantry_build_info{{service="{service}"}})' for service in expositions()} <= absent


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    rows = dict(re.findall(r"^\| `((?:quantry|gen_ai)_\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE))
    found = {
        name: kind
        for text in expositions(with_gen_ai=True).values()
        for name, kind in families(text).items()
        if not name.startswith("process_")
    }
    assert rows == found
