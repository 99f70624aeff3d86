"""The parts of a stack and their order, with the environment of each. The one place that knows who gets which secret."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantry_local.folders import Folders
from quantry_local.installation import Installation
from quantry_local.launch import LaunchFile
from quantry_local.leftovers import STACK_VARIABLE, stack_mark
from quantry_local.parts import OneShot, Part, answers_ok, exits_zero
from quantry_local.ports import HOST, Ports
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import REGION, S3
from quantry_local.secret_values import Secrets

EXIT_GRACE_S = 4.0
"""Seconds that a stopping deploy service leaves its engines; less than in production, because `down` ends within 15 s."""


PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HF_ENDPOINT", "HF_HOME"),
        *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    }
)
"""Of the caller's environment a service gets these and LC_*: machine, way out, devices. No keys, no PYTHONPATH, no PGOPTIONS."""


IMPORT_BUCKETS, IMPORT_S3_PREFIX = "QUANTRY_IMPORT_BUCKETS", "QUANTRY_IMPORT_S3_"
OUTBOUND_PREFIX = "QUANTRY_OUTBOUND_"
HUB_TOKEN = "QUANTRY_HF_TOKEN"
"""Of the caller's environment: where imports may come from beside folders, and with which keys. A token under the hub's own name is not
taken: it was not given to this platform."""
DATASETS_CACHE = "QUANTRY_DATASETS_CACHE"
"""Of the caller's environment: where the worker finds documents of evaluation tasks."""

BACKUP_PREFIX = "QUANTRY_BACKUP_"
"""Of the caller's environment: on which S3 server backups lie, and with which key."""

ENGINE_DEVICE = "cpu"
"""The environment engine-cpu holds vLLM's CPU build."""


@dataclass(frozen=True)
class Layout:
    """Everything that decides how the stack's processes are started."""

    folders: Folders
    installation: Installation
    ports: Ports
    secrets: Secrets
    import_roots: Sequence[Path]
    inherited: Mapping[str, str]
    """The caller's environment; services get what PASSED_ON names."""

    settings: Mapping[str, str]
    """Environment variables that every service gets last."""

    @property
    def url(self) -> str:
        """The stack's public origin."""
        return f"http://{HOST}:{self.ports.gateway}"

    @property
    def postgres(self) -> Postgres:
        return Postgres.of(self.folders)

    @property
    def redis(self) -> Redis:
        return Redis.of(self.folders, port=self.ports.redis, password=self.secrets.redis_password)

    @property
    def s3(self) -> S3:
        return S3.of(self.folders, port=self.ports.s3, access_key=self.secrets.s3_access_key, secret_key=self.secrets.s3_secret_key)

    def servers(self) -> list[Part]:
        """Postgres, Redis and S3."""
        return [
            self._server(self.postgres, str(self.postgres.socket_dir), stop_wait_s=4),
            self._server(self.redis, f"{HOST}:{self.ports.redis}", stop_wait_s=2),
            self._server(self.s3, f"http://{self.s3.endpoint}", stop_wait_s=2),
        ]

    def migrate(self) -> OneShot:
        """Brings the database to the newest schema."""
        return OneShot("migrate", self._python("quantry_store.migrate", self._database()))

    def bootstrap(self, rotate: Sequence[str] = ()) -> OneShot:
        """Makes the first keys, prints the new ones; ``rotate`` names keys to make anew."""
        arguments = [part for name in rotate for part in ("--rotate", name)]
        return OneShot("bootstrap", self._python("quantry_api.bootstrap", self._database(), arguments))

    def backup(self, arguments: Sequence[str]) -> LaunchFile:
        """The command that backs this stack up, or restores into it. Its servers must be up."""
        given = {name: value for name, value in self.inherited.items() if name.startswith(BACKUP_PREFIX)}
        variables = {
            **self._database(),
            **self._blobs(),
            **given,
            "QUANTRY_BACKUP_PG_BIN": str(self.postgres.binaries),
            "QUANTRY_REGISTRY_PORT": str(self.ports.registry),
        }
        return self._python("quantry_registry.backup", variables, arguments)

    def services(self) -> list[Part]:
        """Registry, api, gateway, worker, deploy, dashboard. Worker and dashboard come after the gateway: they speak through it."""
        registry = {
            **self._database(),
            **self._blobs(),
            **self._captures(),
            "QUANTRY_REGISTRY_HOST": HOST,
            "QUANTRY_REGISTRY_PORT": str(self.ports.registry),
        }
        api = {
            **self._database(),
            **self._blobs(),
            **self._broker(),
            **self._imports(),
            **self._captures(),
            **self._webhooks(),
            **self._outbound(),
            "QUANTRY_API_HOST": HOST,
            "QUANTRY_API_PORT": str(self.ports.api),
            "QUANTRY_ENGINE_DEVICE": ENGINE_DEVICE,
        }
        gateway = {
            "QUANTRY_GATEWAY_HOST": HOST,
            "QUANTRY_GATEWAY_PORT": str(self.ports.gateway),
            "QUANTRY_API_URL": f"http://{HOST}:{self.ports.api}",
            "QUANTRY_REGISTRY_URL": f"http://{HOST}:{self.ports.registry}",
            "QUANTRY_GATEWAY_TOKEN": self.secrets.gateway_token or "",
            "QUANTRY_GATEWAY_STATE_DIR": self._own_folder("gateway"),
        }
        deploy = {
            **self._database(),
            **self._blobs(),
            "QUANTRY_DEPLOY_HOST": HOST,
            "QUANTRY_DEPLOY_PORT": str(self.ports.deploy),
            "QUANTRY_DEPLOY_DIR": self._own_folder("deploy"),
            "QUANTRY_ENGINE_DEVICE": ENGINE_DEVICE,
            **self._engine(),
            "QUANTRY_EXIT_GRACE_S": str(EXIT_GRACE_S),
        }
        if self.installation.llama_cpp_python is not None:
            deploy["QUANTRY_LLAMA_CPP_PYTHON"] = str(self.installation.llama_cpp_python)
        dashboard = {
            "QUANTRY_DASHBOARD_HOST": HOST,
            "QUANTRY_DASHBOARD_PORT": str(self.ports.dashboard),
            "QUANTRY_CONTROL_URL": self.url,
        }
        return [
            self._http_service("registry", self.ports.registry, registry, stop_wait_s=4),
            self._http_service("api", self.ports.api, api, stop_wait_s=4),
            self._http_service("gateway", self.ports.gateway, gateway, stop_wait_s=4),
            self._worker(),
            self._http_service("deploy", self.ports.deploy, deploy, stop_wait_s=7),
            self._http_service("dashboard", self.ports.dashboard, dashboard, stop_wait_s=3),
        ]

    def parts(self) -> list[Part]:
        """All parts in the order they start; they stop in the reverse of it."""
        return [*self.servers(), *self.services()]

    def own_folders(self) -> list[Path]:
        """Returns the folders that services keep for themselves."""
        return [self.folders.state_dir / name for name in ("gateway", "worker", "deploy")]

    def _worker(self) -> Part:
        variables = {
            **self._blobs(),
            **self._broker(),
            **self._imports(),
            **self._outbound(),
            "QUANTRY_CONTROL_URL": self.url,
            "QUANTRY_WORKER_TOKEN": self.secrets.worker_token or "",
            "QUANTRY_WORK_DIR": self._own_folder("worker"),
            "QUANTRY_WORKER_QUEUES": "cpu",
            "QUANTRY_WORKER_SLOTS": "1",
            "QUANTRY_ML_PYTHON": str(self.installation.ml_python),
            **self._engine(),
            **self._import_secrets(),
            "QUANTRY_CANCEL_GRACE_S": "2",
            # `down` ends within 15 s: a running job is handed back at once, which costs it no attempt.
            "QUANTRY_WORKER_DRAIN_GRACE_S": "0",
        }
        if self.installation.gptqmodel_python is not None:
            variables["QUANTRY_GPTQMODEL_PYTHON"] = str(self.installation.gptqmodel_python)
        return Part(
            name="worker",
            launch=self._python("quantry_worker", variables),
            is_ready=exits_zero(self._python("quantry_worker.health", variables)),
            address="queue cpu",
            stop_wait_s=6,
        )

    def _engine(self) -> dict[str, str]:
        return {
            "QUANTRY_ENGINE_PYTHON": str(self.installation.engine_python),
            "QUANTRY_ENGINE_SCRIPT": str(self.installation.engine_script),
        }

    def _http_service(self, name: str, port: int, variables: Mapping[str, str], *, stop_wait_s: int) -> Part:
        return Part(
            name=name,
            launch=self._python(f"quantry_{name}", variables),
            is_ready=answers_ok(f"http://{HOST}:{port}/healthz"),
            address=f"http://{HOST}:{port}",
            stop_wait_s=stop_wait_s,
        )

    def _server(self, server: Postgres | Redis | S3, address: str, *, stop_wait_s: int) -> Part:
        account = server.account
        launch = LaunchFile(
            command=server.command(),
            environment={"PATH": os.defpath, STACK_VARIABLE: stack_mark(self.folders.state_dir), **server.environment()},
            cwd="/",
            uid=account.uid if account else None,
            gid=account.gid if account else None,
        )
        return Part(
            name=server.name,
            launch=launch,
            is_ready=server.is_ready,
            address=address,
            stop_wait_s=stop_wait_s,
            stop_signal=server.stop_signal,
            prepare=server.prepare,
        )

    def _python(self, module: str, variables: Mapping[str, str], arguments: Sequence[str] = ()) -> LaunchFile:
        inherited = {name: value for name, value in self.inherited.items() if name in PASSED_ON or name.startswith("LC_")}
        environment = {
            **inherited,
            STACK_VARIABLE: stack_mark(self.folders.state_dir),
            # A process that changes its title with setproctitle would overwrite the environment leftovers are found by.
            "SPT_NOENV": "1",
            "PYTHONUNBUFFERED": "1",
            **variables,
            **self.settings,
        }
        command = [str(self.installation.light_python), "-m", module, *arguments]
        return LaunchFile(command=command, environment=environment, cwd=str(self.folders.state_dir))

    def _own_folder(self, name: str) -> str:
        return str(self.folders.state_dir / name)

    def _database(self) -> dict[str, str]:
        return {"QUANTRY_DATABASE_URL": self.postgres.url}

    def _broker(self) -> dict[str, str]:
        return {"QUANTRY_BROKER_URL": self.redis.url}

    def _imports(self) -> dict[str, str]:
        given = {name: value for name, value in self.inherited.items() if name == IMPORT_BUCKETS}
        return {"QUANTRY_IMPORT_ROOTS": os.pathsep.join(str(root) for root in self.import_roots), **given}

    def _import_secrets(self) -> dict[str, str]:
        """The caller's keys for other places, and its documents of tasks; of all services the worker alone gets them."""
        wanted = {HUB_TOKEN, DATASETS_CACHE}
        return {name: value for name, value in self.inherited.items() if name in wanted or name.startswith(IMPORT_S3_PREFIX)}

    def _captures(self) -> dict[str, str]:
        return {"QUANTRY_CAPTURE_KEYS": self.secrets.capture_key}

    def _webhooks(self) -> dict[str, str]:
        """The key of their secrets, and where people and programs reach this stack."""
        return {
            "QUANTRY_WEBHOOK_KEYS": self.secrets.webhook_key,
            "QUANTRY_PUBLIC_URL": self.url,
            "QUANTRY_DASHBOARD_URL": f"http://{HOST}:{self.ports.dashboard}",
        }

    def _outbound(self) -> dict[str, str]:
        """Where fetches that users ask for may go, as far as the caller says."""
        return {name: value for name, value in self.inherited.items() if name.startswith(OUTBOUND_PREFIX)}

    def _blobs(self) -> dict[str, str]:
        return {
            "QUANTRY_S3_ENDPOINT": self.s3.endpoint,
            "QUANTRY_S3_SECURE": "false",
            "QUANTRY_S3_ACCESS_KEY": self.secrets.s3_access_key,
            "QUANTRY_S3_SECRET_KEY": self.secrets.s3_secret_key,
            "QUANTRY_S3_REGION": REGION,
        }
