"""OpenTelemetry's names for generative AI stand in one module, and become names that Prometheus can hold."""

from __future__ import annotations

import re
from pathlib import Path

from quantry_telemetry import gen_ai

ROOT = Path(__file__).parents[3]
THE_MODULE = "libs/telemetry/quantry_telemetry/gen_ai.py"
A_NAME = re.compile(r"gen_ai[._](?:operation|provider|response|usage|token|server|client|request)\b")


def test_no_other_module_spells_one() -> None:
    files = [path for folder in ("libs", "services", "clients") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 400
    spelled = {str(path.relative_to(ROOT)) for path in files if A_NAME.search(path.read_text())}
    assert spelled == {THE_MODULE}


def test_names_for_prometheus() -> None:
    assert gen_ai.prometheus_name(gen_ai.SERVER_REQUEST_DURATION, "seconds") == "gen_ai_server_request_duration_seconds"
    assert gen_ai.prometheus_name(gen_ai.OPERATION_NAME) == "gen_ai_operation_name"
