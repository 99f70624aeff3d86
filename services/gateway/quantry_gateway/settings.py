"""Settings of the gateway, read from the environment. Sizes in bytes, times in seconds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Where the gateway listens, what it forwards to, and how long it waits. Each is QUANTRY_<NAME> in capitals."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True)

    gateway_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    gateway_port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on.")
    api_url: str = Field(description="Base URL of the api service, such as http://127.0.0.1:8001.")
    registry_url: str = Field(description="Base URL of the registry service.")
    gateway_token: SecretStr = Field(description="Secret of a key of role gateway: it may read the routes.")
    gateway_state_dir: Path = Field(description="Folder that keeps the last routes, so that a restart serves while the api is away.")

    gateway_max_body_bytes: int = Field(default=10 * 1024**2, ge=1024, description="Largest body of a /v1 request.")
    gateway_connect_timeout_s: float = Field(
        default=2.0, gt=0, description="A replica or service that takes no connection by then is away."
    )
    gateway_head_timeout_s: float = Field(
        default=120.0, gt=0, description="A service that has a whole request and begins no answer by then has hung."
    )
    gateway_registry_head_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="The same where the registry goes over every byte: seals, derivations, files, datasets.",
    )
    gateway_service_connections: int = Field(default=512, ge=1, description="Connections to one service at a time, streams included.")
    gateway_idle_timeout_s: float = Field(default=600.0, gt=0, description="A replica that sends nothing for so long has hung.")
    gateway_first_event_timeout_s: float = Field(
        default=300.0, gt=0, description="A stream whose first event has not come by then is asked of another replica."
    )
    gateway_request_timeout_s: float | None = Field(
        default=None, gt=0, description="Bound on a whole request; x-request-timeout-s may set a shorter one. None: no bound."
    )
    gateway_exit_grace_s: int = Field(
        default=2,
        ge=0,
        description="Seconds that answers under way may go on once the gateway was told to stop; streams that take longer end with an "
        "error event. One second more and it is gone.",
    )
    gateway_eject_after: int = Field(
        default=5, ge=1, description="A replica that fails so many requests in a row is left out; one refused connection does so by itself."
    )
    gateway_eject_s: float = Field(
        default=1.0, gt=0, description="For so long at first, twice as long each time that the request on trial fails too."
    )
    gateway_eject_max_s: float = Field(default=30.0, gt=0, description="But not longer.")
    gateway_queue_length: int = Field(
        default=512, ge=0, description="Requests that may wait for room at a release, and for a deployment's first replica."
    )
    gateway_queue_wait_s: float = Field(default=60.0, gt=0, description="How long a request may wait for room at a release.")
    gateway_ready_wait_s: float = Field(
        default=2.0,
        ge=0,
        description="A request for a deployment with no ready replica waits so long for one: a ready one is learnt within a second.",
    )
    gateway_wake_wait_s: float = Field(
        default=120.0, ge=0, description="The same where the deployment was scaled to zero: the request brings a replica up."
    )
    gateway_retry_after_s: int = Field(default=2, ge=1, description="Retry-After of 503 answers.")
    gateway_routes_wait_s: float = Field(default=20.0, ge=0.1, le=60, description="How long the api may hold one routes request.")
    gateway_report_interval_s: float = Field(default=1.0, gt=0, le=60, description="How often the api is told what was counted.")
    gateway_backlog_windows: int = Field(
        default=600, ge=10, description="Windows of traffic held while the api is away; past it the oldest are merged, none is lost."
    )
    gateway_feedback_answers: int = Field(default=50_000, ge=1, description="Latest answers on which feedback is taken.")
    gateway_feedback_settle_s: float = Field(default=10.0, ge=0, description="Feedback may be taken back for so long, then it counts.")
    gateway_mirror_concurrency: int = Field(default=1, ge=1, le=8, description="Pairs of a shadow that are asked for at a time.")
    gateway_mirror_queue: int = Field(default=32, ge=1, description="Mirrored requests that wait for their turn; more are dropped.")
    gateway_mirror_patience_s: float = Field(
        default=2.0, gt=0, description="A mirrored request waits so long for a replica with little to do, then it is dropped."
    )
    gateway_mirror_timeout_s: float = Field(default=60.0, gt=0, description="A mirrored answer that takes longer has failed.")
    gateway_capture_bytes: int = Field(
        default=16 * 1024**2, ge=1024, description="Memory for requests whose prompts are captured, until the api has them."
    )
    gateway_capture_hold_s: float = Field(
        default=600.0, gt=0, description="A captured prompt that the api did not take by then is dropped."
    )
    gateway_trusted_proxies: str = Field(
        default="", description="Comma-separated addresses whose X-Forwarded-For is believed; empty for none, * for all."
    )

    @field_validator("api_url", "registry_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")
