"""Settings that every service has: who may read its metrics, and where its traces go. Read from the environment."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

TRACES_PATH = "/v1/traces"


class TelemetrySettings(BaseSettings):
    """``QUANTRY_METRICS_PORT`` and so on, beside a service's own settings."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore", populate_by_name=True)

    metrics_host: str = Field(default="127.0.0.1", description="Address of the metrics port.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port on which gateway, worker and dashboard serve /metrics; none where not set. Api, registry and deploy have the "
        "path on their own port, which the gateway does not forward.",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Bearer token that every /metrics asks for; whoever reaches the port may read where not set.",
    )
    gen_ai_metrics: bool = Field(default=False, description="The gateway also counts under OpenTelemetry's gen_ai names.")
    traces_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("QUANTRY_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OTLP/HTTP collector, such as http://127.0.0.1:4318; traces are off where not set.",
    )
    traces_sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of traces that are kept, decided by the trace's id.")

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted to; None: nowhere."""
        if not self.traces_endpoint:
            return None
        root = self.traces_endpoint.rstrip("/")
        return root if root.endswith(TRACES_PATH) else root + TRACES_PATH
