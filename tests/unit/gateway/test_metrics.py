"""What the gateway counts, and that series go with the routes they are of."""

from __future__ import annotations

from prometheus_client import generate_latest

from factories.gateway import routed, snapshot, variant
from factories.outcomes import outcome
from quantry_core.routes import Route, RoutedReplica, VariantRole
from quantry_gateway.balancer import Balancer
from quantry_gateway.ejection import Ejection
from quantry_gateway.metrics import MAX_DEPLOYMENTS, OTHER, GatewayMetrics, GatewayState
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.paths import Plane
from quantry_gateway.queues import Queues
from quantry_gateway.table import RouteTable, compile_routes

STABLE = variant(VariantRole.STABLE, 1, 90, "http://127.0.0.1:9")
CANDIDATE = variant(VariantRole.CANDIDATE, 2, 10, "http://127.0.0.1:10")
CHAT = routed("named-by-a-tenant", STABLE, CANDIDATE).model_copy(update={"deployment_id": "dep_1"})


def samples(metrics: GatewayMetrics, prefix: str) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith(prefix))}


def following(*routes: Route, with_gen_ai: bool = False) -> GatewayMetrics:
    metrics = GatewayMetrics(with_gen_ai=with_gen_ai)
    metrics.follow(compile_routes(snapshot(*routes)))
    return metrics


def test_outcomes_are_counted_by_deployment_and_role() -> None:
    metrics = following(CHAT)
    metrics.tell(
        outcome(release_id=STABLE.release_id, began_s=1, first_byte_s=1.2, ended_s=3, prompt_tokens=7, completion_tokens=5, num_retried=1)
    )
    metrics.tell(outcome(OutcomeKind.FAILED, release_id=CANDIDATE.release_id, num_events=3))
    metrics.tell(outcome(release_id="rel_of_nobody"))
    of = f'deployment="{CHAT.deployment_id}",'
    told = {name: value for name, value in samples(metrics, "quantry_gateway_").items() if value and "_bucket" not in name}
    assert told == {
        f'quantry_gateway_outcomes_total{{{of}outcome="answered",role="stable"}}': 1,
        f'quantry_gateway_outcomes_total{{{of}outcome="failed",role="candidate"}}': 1,
        f'quantry_gateway_answer_duration_seconds_count{{{of}role="stable"}}': 1,
        f'quantry_gateway_answer_duration_seconds_sum{{{of}role="stable"}}': 2,
        f'quantry_gateway_time_to_first_token_seconds_count{{{of}role="stable"}}': 1,
        f'quantry_gateway_time_to_first_token_seconds_sum{{{of}role="stable"}}': 1.2 - 1,
        f'quantry_gateway_tokens_total{{{of}kind="prompt",role="stable"}}': 7,
        f'quantry_gateway_tokens_total{{{of}kind="completion",role="stable"}}': 5,
        f'quantry_gateway_tokens_total{{{of}kind="completion",role="candidate"}}': 3,
        f'quantry_gateway_retries_total{{{of}role="stable"}}': 1,
    }
    # Neither the deployment's name nor its project's.
    text = generate_latest(metrics.registry).decode()
    assert not any(word in text for word in (CHAT.deployment, CHAT.project_id))


def test_series_go_with_their_deployment_and_come_anew() -> None:
    metrics = following(CHAT)
    metrics.tell(outcome(release_id=CANDIDATE.release_id))
    metrics.follow(compile_routes(snapshot(CHAT.model_copy(update={"variants": [STABLE]}))))
    left = samples(metrics, "quantry_gateway_outcomes_total")
    assert left and not any("candidate" in name for name in left)
    metrics.follow(compile_routes(snapshot()))
    assert samples(metrics, "quantry_gateway_outcomes_total") == samples(metrics, "quantry_gateway_answer_duration") == {}
    metrics.follow(compile_routes(snapshot(CHAT)))
    assert set(samples(metrics, "quantry_gateway_outcomes_total").values()) == {0.0}


def test_deployments_beyond_a_bound_share_one_label() -> None:
    routes = [
        routed(f"d{number}", STABLE.model_copy(update={"release_id": f"rel_{number}"})).model_copy(
            update={"deployment_id": f"dep_{number:04}"}
        )
        for number in range(MAX_DEPLOYMENTS + 3)
    ]
    metrics = following(*routes)
    for number in range(MAX_DEPLOYMENTS + 3):
        metrics.tell(outcome(release_id=f"rel_{number}"))
    counted = {name: value for name, value in samples(metrics, "quantry_gateway_outcomes_total").items() if value}
    assert len(counted) == MAX_DEPLOYMENTS + 1
    assert counted[f'quantry_gateway_outcomes_total{{deployment="{OTHER}",outcome="answered",role="stable"}}'] == 3


def test_requests_are_counted_by_plane_and_status() -> None:
    metrics = GatewayMetrics()
    for plane, status in ((Plane.DATA, 200), (Plane.DATA, 429), (Plane.API, 200), (Plane.DATA, None)):
        metrics.began(plane)
        if status != 429:
            metrics.ended(plane, status)
    assert samples(metrics, "quantry_gateway_requests_total") == {
        'quantry_gateway_requests_total{plane="data",status="200"}': 1,
        'quantry_gateway_requests_total{plane="api",status="200"}': 1,
        'quantry_gateway_requests_total{plane="data",status="none"}': 1,
    }
    assert {name: value for name, value in samples(metrics, "quantry_gateway_requests_in_flight").items() if value} == {
        'quantry_gateway_requests_in_flight{plane="data"}': 1
    }


async def test_the_state_is_read_when_somebody_asks() -> None:
    metrics, table, now_s = GatewayMetrics(), RouteTable(), [50.0]
    balancer = Balancer(Ejection(after=1, first_s=5, longest_s=5, clock_s=lambda: now_s[0]))
    heard_at_s: list[float | None] = [None]
    state = GatewayState(table, balancer, Queues(balancer, max_waiting=1, wait_s=1), lambda: 4, lambda: heard_at_s[0], lambda: now_s[0])
    metrics.watch(state)
    assert samples(metrics, "quantry_gateway_routes_age_seconds") == {}
    table.swap(compile_routes(snapshot(CHAT, revision=7)))
    heard_at_s[0] = 38.0
    (replica, *_) = STABLE.replicas
    fail(balancer, replica)
    found = samples(metrics, "quantry_gateway_")
    assert {name.removeprefix("quantry_gateway_"): value for name, value in found.items() if "{" not in name} == {
        "routes_revision": 7,
        "routes_age_seconds": 12,
        "replicas": 2,
        "replicas_ejected": 1,
        "ejections_total": 1,
        "queue_depth": 0,
        "wake_waiting": 4,
    }
    metrics.forget(state)
    assert samples(metrics, "quantry_gateway_routes_revision") == {}


def fail(balancer: Balancer, replica: RoutedReplica) -> None:
    turn = balancer.take([replica])
    assert turn is not None
    assert balancer.failed(turn)
    balancer.give_back(turn)


def test_the_same_under_the_conventions_names() -> None:
    metrics = following(CHAT, with_gen_ai=True)
    metrics.tell(
        outcome(release_id=STABLE.release_id, path="/v1/chat/completions", began_s=1, ended_s=3, prompt_tokens=7, completion_tokens=5)
    )
    metrics.tell(outcome(release_id=STABLE.release_id, path="/tokenize"))
    about = 'gen_ai_operation_name="chat",gen_ai_provider_name="quantry"'
    assert {name: value for name, value in samples(metrics, "gen_ai_").items() if "_count" in name} == {
        f"gen_ai_server_request_duration_seconds_count{{{about}}}": 1,
        f'gen_ai_client_token_usage_count{{{about},gen_ai_token_type="input"}}': 1,
        f'gen_ai_client_token_usage_count{{{about},gen_ai_token_type="output"}}': 1,
    }
