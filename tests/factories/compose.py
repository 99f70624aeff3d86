"""docker-compose.yml as it is when nothing is set: read strictly, so that a word which Compose does not know is refused here."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\})")
Seconds = Annotated[str, Field(pattern=r"^[1-9][0-9]*s$")]
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*[mMgG]$")]
Network = dict[Literal["aliases"], list[str]] | None


class Strict(BaseModel):
    """Nothing is turned into something else, and no key is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HealthCheck(Strict):
    test: list[str] = Field(min_length=2)
    interval: Seconds
    timeout: Seconds
    retries: int = Field(ge=1)
    start_period: Seconds


class Build(Strict):
    context: Literal["."]
    dockerfile: str
    target: str | None = None
    args: dict[str, str] = {}


class Dependency(Strict):
    condition: Literal["service_healthy", "service_completed_successfully"]


class Limits(Strict):
    cpus: str = Field(pattern=r"^[0-9]+\.[0-9]+$")
    memory: Bytes
    pids: int = Field(ge=1)


class Device(Strict):
    driver: Literal["nvidia"]
    count: Literal["all"]
    capabilities: list[Literal["gpu"]]


class Reservations(Strict):
    devices: list[Device]


class Resources(Strict):
    limits: Limits
    reservations: Reservations | None = None


class Deploy(Strict):
    resources: Resources


class Mount(Strict):
    type: Literal["bind", "volume"]
    source: str
    target: str = Field(pattern="^/")
    read_only: bool = False


class Logging(Strict):
    driver: Literal["json-file"]
    options: dict[str, str]


class NoFile(Strict):
    soft: int
    hard: int


def mount_of(value: object) -> object:
    """Returns the long form of ``source:target[:ro]``."""
    if not isinstance(value, str):
        return value
    source, target, *mode = value.split(":")
    assert mode in ([], ["ro"]), value
    return Mount(type="bind" if source.startswith((".", "/")) else "volume", source=source, target=target, read_only=bool(mode))


def networks_of(value: object) -> object:
    return dict.fromkeys(value) if isinstance(value, list) else value


class Service(Strict):
    """What this file uses of a service of the Compose specification; the rest is not known here and refused."""

    image: str
    build: Build | None = None
    user: str
    init: bool
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    restart: Literal["unless-stopped", "no"]
    stop_grace_period: Seconds
    stop_signal: str | None = None
    logging: Logging
    deploy: Deploy
    profiles: list[str] = []
    command: list[str] | None = None
    environment: dict[str, str | None] = {}
    secrets: list[str] = []
    networks: Annotated[dict[str, Network], BeforeValidator(networks_of)] = {}
    network_mode: Literal["none"] | None = None
    ports: list[Annotated[str, Field(pattern=r"^[0-9.]+:[0-9]+:[0-9]+$")]] = []
    volumes: list[Annotated[Mount, BeforeValidator(mount_of)]] = []
    tmpfs: list[str] = []
    shm_size: Annotated[str, Field(pattern=r"^[0-9]+[mg]$")] | None = None
    ulimits: dict[Literal["nofile"], NoFile] = {}
    depends_on: dict[str, Dependency] = {}
    healthcheck: HealthCheck | None = None

    @property
    def is_ours(self) -> bool:
        return "/quantry/" in self.image

    @property
    def is_one_shot(self) -> bool:
        return self.restart == "no"

    @property
    def image_name(self) -> str:
        """The name of one of our images: ``api``."""
        return self.image.rpartition("/")[2].partition(":")[0]


class NetworkDefinition(Strict):
    internal: bool = False


class SecretDefinition(Strict):
    file: str


class Compose(Strict):
    name: Literal["quantry"]
    services: dict[str, Service]
    networks: dict[str, NetworkDefinition]
    volumes: dict[str, dict[str, str]]
    secrets: dict[str, SecretDefinition]

    def of_profiles(self, *profiles: str) -> dict[str, Service]:
        """Returns the services that these profiles start."""
        return {name: service for name, service in self.services.items() if not service.profiles or set(service.profiles) & set(profiles)}


def interpolate(value: Any) -> Any:
    """Returns a document as Compose reads it where no variable is set. A variable without a default is refused."""
    if isinstance(value, dict):
        return {key: interpolate(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        assert found["default"] is not None, f"{found[0]} has no default"
        return found["default"]

    assert "$" not in VARIABLE.sub("", value), f"{value!r} holds a $ that Compose would take for a variable"
    return VARIABLE.sub(replaced, value)


@functools.cache
def compose() -> Compose:
    """Returns the file. Keys that begin with x- hold what others refer to."""
    document = yaml.safe_load(COMPOSE_FILE.read_text())
    return Compose.model_validate(interpolate({key: value for key, value in document.items() if not key.startswith("x-")}))


@functools.cache
def raw() -> str:
    return COMPOSE_FILE.read_text()
