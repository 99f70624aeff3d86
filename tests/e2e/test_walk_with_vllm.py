"""A person's way through the dashboard with nothing stood in for: the real child quantizes, and two real engines serve."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from e2e.conftest import JOB_TIMEOUT_S, Platform
from e2e.walk import Recipe, Walk
from factories.browser import Visit, chromium
from quantry_core.jobs import DeploySpec
from quantry_core.rollouts import RolloutState
from quantry_core.versions import VersionDetail
from quantry_local.demo_steps import CALIBRATION_CORPORA, MODEL

DEPLOYMENT = "walked"
ENGINE_S = 400.0


@pytest.mark.long
def test_a_person_quantizes_compares_deploys_and_rolls_back(platform: Platform, master: VersionDetail) -> None:
    (dashboard,) = (part for part in platform.stack.status() if part.name == "dashboard")
    calibration = tuple(f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA)
    platform.succeed(DeploySpec(deployment=DEPLOYMENT, version=master.id))
    try:
        with chromium() as browser:
            expect.set_options(timeout=15_000)
            visit = Visit(browser, dashboard.address)
            recipe = Recipe("gptq", "W4A16", calibration)
            Walk(visit, platform.api_key, MODEL, DEPLOYMENT, recipe, job_s=JOB_TIMEOUT_S, engine_s=ENGINE_S).go()
            visit.close()
            assert visit.requests_elsewhere() == []
            assert visit.complaints == []
        deployment = platform.client.deployments.get(DEPLOYMENT)
        assert deployment.current_release is not None
        assert deployment.current_release.version_id == master.id
        [rollout, _] = platform.client.deployments.rollouts(DEPLOYMENT).data
        assert rollout.state is RolloutState.ROLLED_BACK
        # What serves again is the engine of the older release.
        body = {"model": DEPLOYMENT, "prompt": "And God said unto Moses,", "max_tokens": 8, "temperature": 0}
        headers = {"Authorization": f"Bearer {platform.api_key}"}
        answer = httpx.post(f"{platform.url}/v1/completions", json=body, headers=headers, timeout=120, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-quantry-release"] == "1"
    finally:
        platform.client.deployments.stop(DEPLOYMENT)
