"""The same requests under OpenTelemetry's gen_ai names, where the settings ask for them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_telemetry import gen_ai
from quantry_telemetry.gen_ai import prometheus_name

_OPERATION, _PROVIDER = prometheus_name(gen_ai.OPERATION_NAME), prometheus_name(gen_ai.PROVIDER_NAME)


class GenAiMetrics:
    """Durations and tokens by operation. Without the model's name: it is a tenant's word, and as many as there are tenants' models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration = Histogram(
            prometheus_name(gen_ai.SERVER_REQUEST_DURATION, "seconds"),
            "Whole answers, as quantry_gateway_answer_duration_seconds.",
            [_OPERATION, _PROVIDER],
            buckets=gen_ai.DURATION_BUCKETS_S,
            registry=registry,
        )
        self._first_token = Histogram(
            prometheus_name(gen_ai.SERVER_TIME_TO_FIRST_TOKEN, "seconds"),
            "Streamed answers, as quantry_gateway_time_to_first_token_seconds.",
            [_OPERATION, _PROVIDER],
            buckets=gen_ai.FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self._tokens = Histogram(
            prometheus_name(gen_ai.CLIENT_TOKEN_USAGE),
            "Tokens of one request and of its answer.",
            [_OPERATION, _PROVIDER, prometheus_name(gen_ai.TOKEN_TYPE)],
            buckets=gen_ai.TOKEN_BUCKETS,
            registry=registry,
        )

    def add(self, outcome: Outcome) -> None:
        """Counts one finished request of those that generate."""
        operation = gen_ai.OPERATIONS.get(outcome.path)
        if operation is None:
            return
        labels = (operation, gen_ai.PROVIDER)
        if outcome.kind is OutcomeKind.ANSWERED:
            self._duration.labels(*labels).observe(outcome.ended_s - outcome.began_s)
        if outcome.first_byte_s is not None:
            self._first_token.labels(*labels).observe(outcome.first_byte_s - outcome.began_s)
        if outcome.prompt_tokens is not None:
            self._tokens.labels(*labels, gen_ai.INPUT_TOKENS).observe(outcome.prompt_tokens)
        if outcome.completion_tokens is not None:
            self._tokens.labels(*labels, gen_ai.OUTPUT_TOKENS).observe(outcome.completion_tokens)
