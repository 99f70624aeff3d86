"""Alerts and dashboards are files of the chart that others write: whatever is in them arrives as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from factories.chart import schemas
from factories.chart.cases import EXTERNAL
from factories.chart.rendering import CHART_DIR, merged, render

ON = merged(EXTERNAL, {"monitoring": {"alerts": {"enabled": True, "labels": {"release": "prometheus"}}, "dashboards": {"enabled": True}}})

RULES: dict[str, Any] = {
    "groups": [
        {
            "name": "quantry.jobs",
            "rules": [
                {
                    "alert": "NoMetrics",
                    "expr": 'absent(quantry_jobs{queue="gpu"})',
                    "for": "5m",
                    "labels": {"severity": "page"},
                    "annotations": {"summary": "{{ $labels.instance }} is at {{ printf \"%.0f\" $value }}: 'quoted', 100%"},
                }
            ],
        }
    ]
}
DASHBOARD = {
    "title": "Jobs",
    "panels": [{"legendFormat": "{{queue}} — {{ status }}", "expr": 'sum by (queue) (quantry_jobs{status="queued"})'}],
}


@pytest.fixture
def chart_dir(tmp_path: Path) -> Path:
    """Returns a copy of the chart without its alerts and dashboards."""
    return Path(shutil.copytree(CHART_DIR, tmp_path / "quantry", ignore=shutil.ignore_patterns("alerts", "dashboards")))


def test_without_files_there_is_nothing(chart_dir: Path) -> None:
    rendered = render(ON, chart_dir)
    assert not rendered.of_kind("PrometheusRule")
    assert not rendered.of_kind("ConfigMap")


def test_braces_and_quotes_arrive_as_they_are(chart_dir: Path) -> None:
    (chart_dir / "alerts").mkdir()
    (chart_dir / "alerts" / "the_jobs.yaml").write_text("# Of jobs.\n" + yaml.safe_dump(RULES))
    (chart_dir / "dashboards").mkdir()
    (chart_dir / "dashboards" / "jobs.json").write_text(json.dumps(DASHBOARD, indent=2, ensure_ascii=False))
    rendered = render(ON, chart_dir)
    (rule,) = rendered.of_kind("PrometheusRule")
    assert rule["metadata"]["name"] == "prod-quantry-the-jobs"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == RULES
    assert schemas.problems_of(rule) == []
    (dashboard,) = rendered.of_kind("ConfigMap")
    assert dashboard["metadata"]["name"] == "prod-quantry-dashboard-jobs"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in dashboard["data"].items()} == {"jobs.json": DASHBOARD}


def test_every_file_of_the_chart_becomes_an_object() -> None:
    rendered = render(ON)
    alerts = {path.stem.removeprefix("quantry-").replace("_", "-") for path in CHART_DIR.glob("alerts/*.yaml")}
    dashboards = {path.name for path in CHART_DIR.glob("dashboards/*.json")}
    assert {one["metadata"]["name"].removeprefix("prod-quantry-") for one in rendered.of_kind("PrometheusRule")} == alerts
    assert {name for one in rendered.of_kind("ConfigMap") for name in one["data"]} == dashboards
    for document in rendered.of_kind("PrometheusRule", "ConfigMap"):
        assert schemas.problems_of(document) == []
        assert len(json.dumps(document)) < 900_000, "an object of a cluster has at most 1 MiB"


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ({}, set()),
        ({"dashboard": {"enabled": False}}, {"QuantryDashboardAbsent"}),
        ({"deploy": {"enabled": False}}, {"QuantryDeployAbsent"}),
        ({"workers": {"cpu": {"scaling": {"mode": "keda"}}}}, {"QuantryWorkerAbsent"}),
        ({"workers": {"cpu": {"replicas": 0}}}, {"QuantryWorkerAbsent"}),
        ({"monitoring": {"alerts": {"disabled": ["QuantryApiAbsent"]}}}, {"QuantryApiAbsent"}),
    ],
)
def test_no_alert_holds_for_ever(values: dict[str, Any], left_out: set[str]) -> None:
    def alerts(documents: list[dict[str, Any]]) -> set[str]:
        return {rule["alert"] for one in documents for group in one["spec"]["groups"] for rule in group["rules"] if "alert" in rule}

    written = alerts([{"spec": yaml.safe_load(path.read_text())} for path in CHART_DIR.glob("alerts/*.yaml")])
    assert left_out <= written, "such an alert is not there any more"
    assert alerts(render(merged(ON, values)).of_kind("PrometheusRule")) == written - left_out


def test_they_are_made_only_where_they_are_asked_for() -> None:
    assert not render(EXTERNAL).of_kind("PrometheusRule", "ConfigMap", "ServiceMonitor", "PodMonitor")
