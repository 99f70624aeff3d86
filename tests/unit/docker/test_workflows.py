"""The workflows: pinned, with no more rights than they need, and of commands that there are."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from factories.compose import ROOT
from unit.docker.test_images import build_images

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path: Any) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text())
    return document


def steps(document: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in document["jobs"].values() for step in job["steps"]]


def test_there_is_one_that_tests_and_one_that_publishes() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "images.yml"]
    assert any(step.get("run") == ".ci/run" for step in steps(load(WORKFLOWS[0])))


@every_workflow
def test_actions_are_pinned_by_commit_and_leave_no_credentials_behind(path: Any) -> None:
    for step in steps(load(path)):
        if "uses" in step:
            assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", step["uses"])
            assert step["with"]["persist-credentials"] is False


@every_workflow
def test_rights_are_minimal_and_jobs_end(path: Any) -> None:
    document = load(path)
    assert document["permissions"] == {"contents": "read"}
    for name, job in document["jobs"].items():
        assert job["timeout-minutes"] <= 300
        assert set(job.get("permissions", {}).items()) <= {("contents", "read"), ("packages", "write")}, name
        assert re.fullmatch(r"ubuntu-\d+\.\d+", job["runs-on"])
        assert "container" not in job or "@sha256:" in job["container"]
    # GitHub puts expressions into a script before the shell reads it: what others choose (a branch's name) comes by variables.
    for step in steps(document):
        assert not set(re.findall(r"\$\{\{ *([a-z._]+)", step.get("run", ""))) - {"github.sha"}, step


def test_only_a_tag_publishes_and_every_image_once() -> None:
    document = load(WORKFLOWS[1])
    # YAML reads the key `on` as true.
    assert document[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+*"]}}
    matrix = document["jobs"]["publish"]["strategy"]["matrix"]["images"]
    assert sorted(name for group in matrix for name in group.split(",")) == sorted(build_images.IMAGES)
    assert not re.search(r"\$\{\{ *secrets\.", WORKFLOWS[0].read_text()), "what pull requests run sees no secret"


@every_workflow
def test_make_is_asked_for_what_it_knows(path: Any) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(load(path)):
        for words in re.findall(r"(?m)^ *make (\S+)(?: ARGS=\"([^\"]*)\")?", step.get("run", "")):
            assert words[0] in targets
            known = {option for action in build_images._parser()._actions for option in action.option_strings}
            assert set(re.findall(r"--[a-z-]+", words[1])) <= known
