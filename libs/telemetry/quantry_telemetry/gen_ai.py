"""Names of OpenTelemetry's semantic conventions for generative AI, as of 1.39: status Development, so they may change.

This is the one place that spells them. Metrics under these names are counted beside the platform's own, and only where the setting
``gen_ai_metrics`` asks for them; spans carry the attributes. Prometheus's names are made as OpenTelemetry's exporter makes them: dots
become underscores, the unit comes last.
"""

from __future__ import annotations

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
RESPONSE_ID = "gen_ai.response.id"
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"

PROVIDER = "quantry"
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Values of OPERATION_NAME by path of the data plane; other paths generate nothing and have none."""

INPUT_TOKENS = "input"
OUTPUT_TOKENS = "output"
"""Values of TOKEN_TYPE."""

SERVER_REQUEST_DURATION = "gen_ai.server.request.duration"
SERVER_TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"
CLIENT_TOKEN_USAGE = "gen_ai.client.token.usage"

DURATION_BUCKETS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""As the conventions advise."""


def prometheus_name(name: str, unit: str = "") -> str:
    """Returns a name as Prometheus can hold it: ``gen_ai.server.request.duration`` in seconds is gen_ai_server_request_duration_seconds."""
    plain = name.replace(".", "_")
    return f"{plain}_{unit}" if unit else plain
