"""Rollouts through the SDK and the command: asked for, followed, told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from factories.client import FakeServer, answer, failing, job, page, problem
from factories.command import check_both_ways, run
from factories.serving import NOW, ROLLOUT_ID, a_judgement, a_rollout, traffic
from quantry import ApiError, ServerUnreachable, WaitTimedOut
from quantry.cli.rollout_view import REASON_WORDS, STATE_STYLES, VERDICT_STYLES, line_of, share_text, strategy_text, why_text
from quantry_core.jobs import DeploySpec, JobStatus, JobType
from quantry_core.rollouts import Rollout, RolloutReason, RolloutRequest, RolloutState
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, ImmediateStrategy, ShadowStrategy, StickyBy, Strategy
from quantry_core.verdicts import Verdict

PATH = f"/api/v1/rollouts/{ROLLOUT_ID}"
FAILED = a_rollout(
    RolloutState.ROLLED_BACK,
    percent=0,
    reason=RolloutReason.VERDICT_FAILED,
    message="latency_compared: p95 is 2.4 times stable's",
    judgement=a_judgement(Verdict.FAIL),
    finished_at=NOW + timedelta(minutes=1),
)
PROMOTED = a_rollout(
    RolloutState.PROMOTED,
    percent=100,
    stage=2,
    reason=RolloutReason.COMPLETED,
    judgement=a_judgement(Verdict.PASS),
    finished_at=NOW + timedelta(minutes=5),
)


def prepare(server: FakeServer) -> None:
    server.on("GET", "/api/v1/rollouts", page(a_rollout()))
    server.on("GET", PATH, answer(a_rollout()))
    server.on("GET", f"{PATH}/traffic", answer(traffic()))
    server.on("GET", "/api/v1/deployments/chat/rollouts", page(a_rollout()))
    server.on("POST", f"{PATH}/pause", answer(a_rollout(RolloutState.PAUSED)))
    for request in (RolloutRequest.RESUME, RolloutRequest.PROMOTE):
        server.on("POST", f"{PATH}/{request}", answer(a_rollout(promote_requested=request is RolloutRequest.PROMOTE)))
    server.on("POST", f"{PATH}/abort", answer(a_rollout(RolloutState.ABORTED)))
    server.on("POST", f"{PATH}/rollback", answer(a_rollout(RolloutState.ROLLED_BACK)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rollouts list", [ROLLOUT_ID, "progressing", "canary 10%, 50%, 100%", "10% (step 1 of 3)"]),
        (f"rollouts show {ROLLOUT_ID}", ["error_rate_compared", "0.98 .. 1.61", "240 and 2160", "12 (5.0%)", "496 ms", "606 ms"]),
        ("rollouts show chat", [ROLLOUT_ID, "inconclusive latency_compared: p95 is 1.22 times stable's"]),
        (f"rollouts pause {ROLLOUT_ID}", ["paused; follow it"]),
        ("rollouts resume chat", ["progressing; follow it"]),
        ("rollouts promote chat", ["progressing, to be promoted once its replicas are ready"]),
        ("rollouts abort chat", [f"{ROLLOUT_ID} aborted"]),
        ("rollouts rollback chat", [f"{ROLLOUT_ID} rolled_back"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], line: str, words: list[str]
) -> None:
    prepare(server)
    check_both_ways(capsys, line, words)


@pytest.mark.parametrize("request_", RolloutRequest)
def test_what_is_asked_goes_with_its_note_and_is_repeated_where_an_answer_is_lost(server: FakeServer, request_: RolloutRequest) -> None:
    server.on("POST", f"{PATH}/{request_}", failing(httpx.ReadError), answer(a_rollout()))
    client = server.client()
    asked = {
        RolloutRequest.PAUSE: client.rollouts.pause,
        RolloutRequest.RESUME: client.rollouts.resume,
        RolloutRequest.PROMOTE: client.rollouts.promote,
        RolloutRequest.ABORT: client.rollouts.abort,
        RolloutRequest.ROLL_BACK: client.rollouts.rollback,
    }[request_]
    assert asked(ROLLOUT_ID, note="too slow") == a_rollout()
    assert [json.loads(sent.content) for sent in server.requests] == [{"note": "too slow"}] * 2


def test_a_rollout_is_created_once(server: FakeServer) -> None:
    server.on("POST", "/api/v1/rollouts", failing(httpx.ReadError), answer(a_rollout(), 201))
    spec = DeploySpec(deployment="chat", version="bard@2")
    assert server.client().rollouts.create(spec, idempotency_key="monday") == a_rollout()
    assert [sent.headers["idempotency-key"] for sent in server.requests] == ["monday", "monday"]
    assert DeploySpec.model_validate_json(server.requests[0].content) == spec


def test_a_rollout_that_must_wait_is_its_job(server: FakeServer) -> None:
    waiting = job(JobStatus.WAITING, type=JobType.DEPLOY, spec=DeploySpec(deployment="chat", version="bard@2"))
    server.on("POST", "/api/v1/rollouts", answer(waiting, 202))
    assert server.client().rollouts.create(DeploySpec(deployment="chat", version="bard@2")) == waiting


def test_a_list_is_narrowed(server: FakeServer) -> None:
    server.on("GET", "/api/v1/rollouts", page(a_rollout()))
    server.client().rollouts.list(deployment="chat", state=RolloutState.PAUSED)
    assert dict(server.requests[0].url.params) == {"deployment": "chat", "state": "paused", "limit": "20"}


def test_following_yields_each_change_once_until_the_end(server: FakeServer) -> None:
    half = a_rollout(percent=50, stage=1)
    away = problem(503, "unavailable", "the database is away")
    server.on("GET", PATH, answer(a_rollout()), answer(a_rollout()), away, away, away, away, answer(half), answer(PROMOTED))
    assert list(server.client().rollouts.follow(ROLLOUT_ID)) == [a_rollout(), half, PROMOTED]


def test_following_what_is_not_there_raises_at_once(server: FakeServer) -> None:
    with pytest.raises(ApiError) as refused:
        list(server.client().rollouts.follow(ROLLOUT_ID))
    assert refused.value.status == 404
    server.on("GET", PATH, answer(a_rollout()), problem(403, "forbidden", "no more"))
    with pytest.raises(ApiError, match="no more"):
        list(server.client().rollouts.follow(ROLLOUT_ID))


def test_a_server_that_stays_away_ends_the_following(server: FakeServer) -> None:
    server.on("GET", PATH, answer(a_rollout()), failing(httpx.ConnectError))
    with pytest.raises(ServerUnreachable):
        list(server.client().rollouts.follow(ROLLOUT_ID))
    assert sum(server.slept_s) > 25


def test_waiting_ends_with_the_rollout_or_the_time(server: FakeServer) -> None:
    server.on("GET", PATH, answer(a_rollout()), answer(FAILED))
    assert server.client().rollouts.wait(ROLLOUT_ID) == FAILED
    server.on("GET", PATH, answer(a_rollout(RolloutState.PAUSED)))
    with pytest.raises(WaitTimedOut, match=f"rollout {ROLLOUT_ID} is still paused after 0 s; it goes on") as late:
        server.client().rollouts.wait(ROLLOUT_ID, 0)
    assert isinstance(late.value.last_seen, Rollout)


def test_a_rollout_that_fails_is_followed_to_its_reason(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/deployments/chat/rollouts", page(a_rollout()))
    judged = a_rollout(judgement=a_judgement().model_copy(update={"made_at": datetime.now(UTC)}))
    server.on("GET", PATH, answer(a_rollout()), answer(judged), answer(FAILED))
    assert run("rollouts", "follow", "chat") == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "progressing candidate 10% (step 1 of 3), verdict inconclusive",
        "rolled_back candidate 0% (step 1 of 3), verdict fail - the candidate failed its rules: "
        "latency_compared: p95 is 2.4 times stable's",
    ]
    assert f"{ROLLOUT_ID} rolled_back after 3 min: the candidate failed its rules" in captured.err


def test_a_promoted_one_is_a_success_and_programs_get_a_line_for_each_change(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("GET", PATH, answer(a_rollout()), answer(PROMOTED))
    assert run("rollouts", "follow", ROLLOUT_ID) == 0
    assert f"{ROLLOUT_ID} promoted after 7 min: completed" in capsys.readouterr().out
    server.on("GET", PATH, answer(a_rollout()), answer(PROMOTED))
    assert run("rollouts", "follow", ROLLOUT_ID, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Rollout.model_validate_json(line) for line in lines] == [a_rollout(), PROMOTED]


@pytest.mark.usefixtures("terminal")
def test_a_terminal_is_redrawn_with_traffic_and_findings(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(server)
    server.on("GET", PATH, answer(a_rollout()), answer(PROMOTED))
    assert run("rollouts", "follow", ROLLOUT_ID) == 0
    out = capsys.readouterr().out
    for words in ("10% (step 1 of 3)", "100% (step 3 of 3)", "candidate", "error_rate_compared", "0.98 .. 1.61", "606 ms", "promoted"):
        assert words in out


@pytest.mark.usefixtures("terminal")
def test_a_terminal_goes_on_where_the_figures_do_not_come(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    half = a_rollout(percent=50, stage=1)
    server.on("GET", PATH, answer(a_rollout()), answer(half), answer(PROMOTED))
    server.on("GET", f"{PATH}/traffic", answer(traffic()), failing(httpx.ConnectError))
    assert run("rollouts", "follow", ROLLOUT_ID) == 0
    out = capsys.readouterr().out
    assert "606 ms" in out[out.index("50% (step 2 of 3)") :]


def test_ctrl_c_leaves_it_going(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.on("GET", PATH, answer(a_rollout()), interrupt)
    assert run("rollouts", "follow", ROLLOUT_ID) == 130
    assert f"quantry rollouts abort {ROLLOUT_ID}" in capsys.readouterr().err


def test_a_name_without_a_rollout_is_a_usage_error(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rollouts", "show", "nobody") == 2
    assert "there is no rollout and no deployment 'nobody'" in capsys.readouterr().err
    server.on("GET", "/api/v1/deployments/empty/rollouts", page())
    assert run("rollouts", "pause", "empty") == 2
    assert "empty has had no rollout" in capsys.readouterr().err


def test_a_conflict_is_the_servers_sentence(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"{PATH}/promote", problem(409, "rollout-over", "the rollout was rolled back: begin a new one"))
    assert run("rollouts", "promote", ROLLOUT_ID) == 1
    assert "the rollout was rolled back: begin a new one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (ImmediateStrategy(), "immediate"),
        (BlueGreenStrategy(), "blue-green"),
        (AbStrategy(percent=30), "ab 30% by user"),
        (AbStrategy(sticky_by=StickyBy.HEADER, header="x-tenant"), "ab 50% by header x-tenant"),
        (ShadowStrategy(percent=5), "shadow 5%"),
    ],
)
def test_strategies_in_words(strategy: Strategy, words: str) -> None:
    assert strategy_text(a_rollout(strategy=strategy)) == words


def test_shares_and_reasons_in_words() -> None:
    assert share_text(a_rollout(strategy=ShadowStrategy(), percent=0, mirror_percent=10)) == "0% and 10% compared"
    assert share_text(a_rollout(exposed_at=None, percent=0)) == "0%"
    assert why_text(a_rollout(RolloutState.PAUSED, reason=RolloutReason.STEP)) == "its step says so"
    assert why_text(a_rollout()) == ""
    crashed = a_rollout(RolloutState.ROLLED_BACK, reason=RolloutReason.CRASH_LOOP, message="replica 0 ended:\n  KeyError: 'scales'\n")
    assert line_of(crashed).endswith(" - replicas keep ending: replica 0 ended: KeyError: 'scales'")


def test_every_state_verdict_and_reason_has_its_words() -> None:
    assert set(STATE_STYLES) == set(RolloutState)
    assert set(VERDICT_STYLES) == set(Verdict)
    assert set(REASON_WORDS) == set(RolloutReason)
