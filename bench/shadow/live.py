"""The same shadow, on a stack: real engines, requests as they come, the gateway's pairs, the controller's verdict."""

from __future__ import annotations

from typing import NamedTuple

from bench.embedded import embedded_stack
from bench.serving.checkpoints import prompts
from bench.serving.clients import Load, asking
from bench.serving.platform import DEPLOYMENT, Versions, deploy, ended, make_versions, promoted
from quantry_core.strategies import OnShadowPass, ShadowStrategy

REQUESTS_PER_S = 4.0
TIMEOUT_S = 1200.0
NUM_PROMPTS = 300


class Live(NamedTuple):
    """How one shadow ended."""

    state: str
    reason: str
    message: str
    num_pairs: int
    num_requests: int
    num_failed: int


def live(strategy: ShadowStrategy, spread: float | None) -> Live:
    """Returns how the shadow of a candidate ended: the sound one, or one whose scales were spoilt."""
    with embedded_stack({"QUANTRY_WORKER_SLOTS": "1"}) as measured:
        versions = make_versions(measured, spread=spread)
        promoted(measured, versions.stable)
        changes = {"percent": 100, "on_pass": OnShadowPass.PROMOTE, "deadline_s": TIMEOUT_S}
        load = Load(measured.url, measured.api_key, DEPLOYMENT, REQUESTS_PER_S, prompts(NUM_PROMPTS))
        with asking(load) as clients:
            rollout = deploy(measured, _candidate(versions), strategy=strategy.model_copy(update=changes))
            finished = ended(measured, rollout, timeout_s=TIMEOUT_S)
        judgement = finished.judgement
        num_pairs = judgement.findings[0].num_candidate if judgement is not None and judgement.findings else 0
        message = judgement.reason() if judgement is not None else finished.message or ""
        num_requests, num_failed = len(clients.ended()), len(clients.failed())
        return Live(finished.state.value, str(finished.reason), message, num_pairs, num_requests, num_failed)


def _candidate(versions: Versions) -> str:
    return versions.spoilt or versions.candidate
