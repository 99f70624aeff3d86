"""What served under a name, back to it, and what is kept of its requests."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest

from factories.client import FakeServer, answer, dataset, failing, page, problem, version
from factories.command import check_both_ways, run
from factories.serving import NOW, a_period, a_release, a_rollout
from quantry import ServerUnreachable
from quantry_core.captures import CaptureSettings, CaptureStatus
from quantry_core.comparisons import Comparison, Relation
from quantry_core.deployment_diffs import DeploymentDiff, ServedSide, config_differences
from quantry_core.jobs import EngineConfig
from quantry_core.keys import ApiKey, KeyLimits, NewKey, Role
from quantry_core.rollouts import Deployment, PeriodCause, RolloutReason

CHAT = "/api/v1/deployments/chat"
KEY_ID = "key_0197f0a0000070008000000000000001"
DEPLOYMENT = Deployment(
    id="dep_1",
    project_id="prj_1",
    name="chat",
    current_release=a_release(1),
    active_rollout=None,
    replicas=[],
    is_stopped=False,
    created_at=NOW,
)
PERIODS = [
    a_period(
        3, {1: 100}, PeriodCause.ROLLED_BACK, reason=RolloutReason.VERDICT_FAILED, message="latency_compared: too slow", ended_at=None
    ),
    a_period(2, {1: 90, 2: 10}),
    a_period(1, {1: 100}, PeriodCause.PROMOTED, reason=RolloutReason.COMPLETED, key_id=KEY_ID, note="the first one"),
    a_period(0, {}, PeriodCause.STOPPED, reason=RolloutReason.STOPPED),
]
STATUS = CaptureStatus(settings=CaptureSettings(percent=5, max_prompts=100), num_prompts=42, oldest_at=NOW, newest_at=NOW)
KEY = ApiKey(
    id=KEY_ID,
    project_id="prj_1",
    name="ci",
    role=Role.VIEWER,
    prefix="qtr_abcd",
    limits=KeyLimits(requests_per_minute=60, tokens_per_minute=10_000),
    created_at=NOW,
)


def prepare(server: FakeServer) -> None:
    server.on("GET", f"{CHAT}/releases", page(a_release(2, engine=EngineConfig(max_num_seqs=32)), a_release(1)))
    server.on("POST", f"{CHAT}/rollback", answer(DEPLOYMENT))
    server.on("GET", f"{CHAT}/history", page(*PERIODS))
    server.on("GET", f"{CHAT}/at", answer(PERIODS[1]))
    server.on("GET", f"{CHAT}/capture", answer(STATUS))
    server.on("PUT", f"{CHAT}/capture", answer(STATUS))
    server.on("DELETE", f"{CHAT}/capture", lambda _request: httpx.Response(204))
    server.on("POST", f"{CHAT}/capture/dataset", answer(dataset(name="chat.captured"), 201))
    server.on("GET", f"{CHAT}/diff", answer(compared()))
    server.on("POST", "/api/v1/keys", answer(NewKey(key=KEY, secret="qtr_abcd-once"), 201))
    server.on("GET", "/api/v1/keys", page(KEY))


def compared() -> DeploymentDiff:
    """Returns two releases of versions that differ in nothing."""
    left = version({"config.json": b"{}"})
    versions = Comparison(
        left=left,
        right=left,
        relation=Relation.SIBLINGS,
        added=[],
        removed=[],
        changed=[],
        num_equal_files=1,
        shared_bytes=2,
        size_difference_bytes=0,
        facts=[],
        recipe=[],
        toolchain=[],
        verdicts=[],
        evidence=[],
    )
    ours, theirs = a_release(1), a_release(2, engine=EngineConfig(max_num_seqs=32))
    return DeploymentDiff(
        left=ServedSide(release=ours, at=NOW, period=PERIODS[1]),
        right=ServedSide(release=theirs),
        config=config_differences(ours, theirs),
        versions=versions,
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("deployments releases chat", ["bard@2", "bard@1", "vllm"]),
        ("deployments rollback chat --to 1 --note slow", ["chat serves bard@1 (release 1)"]),
        (
            "deployments history chat",
            ["90%", "10%", "bard@2", "rolled_back", "latency_compared: too slow", KEY_ID, "the first one", "nothing"],
        ),
        ("deployments at chat 2026-11-22T12:02:30Z", ["90% bard@1 (release 1)", "10% bard@2 (release 2)", "the platform"]),
        ("deployments diff chat 1 2", ["engine.max_num_seqs", "32", "siblings"]),
        ("deployments diff chat 2026-11-22T12:02:30Z 2", ["release 1", "release 2"]),
        ("deployments capture show chat", ["5% of requests, at most 100 prompts", "30 days", "42"]),
        ("deployments capture on chat --percent 5 --max-prompts 100", ["42"]),
        ("deployments capture off chat", ["no further prompts of chat are kept"]),
        ("deployments capture dataset chat chat.captured", ["chat.captured@1", "3 rows"]),
        ("keys create --name ci --requests-per-minute 60 --tokens-per-minute 10000", ["qtr_abcd-once"]),
        ("keys list", ["60 requests/min, 10000 tokens/min"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], line: str, words: list[str]
) -> None:
    prepare(server)
    check_both_ways(capsys, line, words)


def test_a_rollback_to_a_number_is_repeated_and_one_to_the_release_before_is_not(server: FakeServer) -> None:
    server.on("POST", f"{CHAT}/rollback", failing(httpx.ReadError), answer(DEPLOYMENT))
    client = server.client()
    client.deployments.rollback("chat", 1, note="slow")
    assert [json.loads(sent.content) for sent in server.requests] == [{"release": 1, "note": "slow"}] * 2
    server.requests.clear()
    server.on("POST", f"{CHAT}/rollback", failing(httpx.ReadError), answer(DEPLOYMENT))
    with pytest.raises(ServerUnreachable):
        client.deployments.rollback("chat")
    assert len(server.requests) == 1


def test_a_cold_rollback_says_what_is_waited_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"{CHAT}/rollback", answer(DEPLOYMENT.model_copy(update={"active_rollout": a_rollout()})))
    assert run("deployments", "rollback", "chat") == 0
    assert f"quantry rollouts follow {a_rollout().id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current_release": None}, "the rollout of chat is ended; nothing has served before it"),
        ({"is_stopped": True}, "chat is stopped at bard@1 (release 1)"),
    ],
)
def test_a_rollback_to_nothing_or_of_what_is_stopped_does_not_say_that_it_serves(
    server: FakeServer, capsys: pytest.CaptureFixture[str], changes: dict[str, object], words: str
) -> None:
    server.on("POST", f"{CHAT}/rollback", answer(DEPLOYMENT.model_copy(update=changes)))
    assert run("deployments", "rollback", "chat") == 0
    assert capsys.readouterr().out.strip() == words


def test_sides_of_a_difference_are_numbers_and_moments_with_their_zone(server: FakeServer) -> None:
    prepare(server)
    client = server.client()
    client.deployments.diff("chat", NOW, 2)
    assert dict(server.requests[0].url.params) == {"from": "2026-11-22T12:00:00+00:00", "to": "2"}
    client.deployments.at("chat", NOW)
    assert dict(server.requests[1].url.params) == {"time": "2026-11-22T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("deployments at chat yesterday", "'yesterday' is no time"),
        ("deployments diff chat one 2", "'one' is no time"),
        ("deployments rollback chat --to 0", "Input should be greater than or equal to 1"),
        ("deployments capture on chat --percent 0", "--percent: Input should be greater than 0"),
        ("deployments capture dataset chat Prompts", "--name: "),
        ("keys create --name ci --requests-per-minute 0", "--requests-per-minute: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_not_sent(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(*line.split()) == 2
    assert words in capsys.readouterr().err
    assert server.requests == []


def test_what_the_server_refuses_is_its_sentence(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("PUT", f"{CHAT}/capture", problem(422, "invalid-input", "prompts are kept encrypted, and no key is set"))
    assert run("deployments", "capture", "on", "chat", "--percent", "5") == 1
    assert "no key is set" in capsys.readouterr().err


def test_a_deployment_shows_its_rollout_watch_and_capture(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    shown = DEPLOYMENT.model_copy(
        update={
            "active_rollout": a_rollout(job_id=None),
            "watched_rollout": a_rollout(watch_until=NOW + timedelta(minutes=5)),
            "capture": CaptureSettings(percent=2.5),
            "num_wanted": 3,
        }
    )
    server.on("GET", CHAT, answer(shown))
    assert run("deployments", "show", "chat") == 0
    out = capsys.readouterr().out
    for words in ("10% (step 1 of 3)", "inconclusive", "the release before stays warm", "2.5% of prompts", "3 replicas, by what waits"):
        assert words in out
    assert "(job" not in out
