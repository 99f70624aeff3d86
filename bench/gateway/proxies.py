"""The proxies that are compared: how each is started before the same engine. A literal table, in the order of a round."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.embedded import ROOT, free_port
from bench.gateway import control, peers
from bench.gateway.load import Target
from bench.gateway.processes import Cores, running, wait_until_well

QUANTRY, NGINX, LITELLM, PRODUCTION_STACK = "quantry", "nginx", "litellm", "production-stack"


@dataclass(frozen=True)
class Site:
    """What a proxy is started with."""

    engine_port: int
    scratch: Path
    cores: Cores
    nginx: str | None
    """Path of the executable; None: it is looked for."""

    production_stack: Path | None
    """A checkout of its repository."""

    @property
    def engine_url(self) -> str:
        return f"http://127.0.0.1:{self.engine_port}"

    def log(self, name: str) -> Path:
        """Returns where a process writes."""
        return self.scratch / f"{name}.log"


@dataclass(frozen=True)
class Proxy:
    """One that runs."""

    name: str
    version: str
    target: Target
    process: psutil.Process


@contextmanager
def quantry(site: Site) -> Iterator[Proxy]:
    """The gateway as the stack starts it, with a control plane of one route that takes its reports."""
    control_port, port = free_port(), free_port()
    control_url = f"http://127.0.0.1:{control_port}"
    variables = {
        "QUANTRY_GATEWAY_PORT": str(port),
        "QUANTRY_API_URL": control_url,
        "QUANTRY_REGISTRY_URL": control_url,
        "QUANTRY_GATEWAY_TOKEN": control.TOKEN,
        "QUANTRY_GATEWAY_STATE_DIR": str(site.scratch / "gateway"),
    }
    (site.scratch / "gateway").mkdir(exist_ok=True)
    around = [sys.executable, "-m", "bench.gateway.control", str(control_port), site.engine_url]
    with (
        running(around, control_port, site.cores.around, site.log("control"), environment={"PYTHONPATH": str(ROOT)}),
        running(
            [sys.executable, "-m", "quantry_gateway"], port, site.cores.proxy, site.log(QUANTRY), environment=variables, cwd=site.scratch
        ) as process,
    ):
        # It listens before it has learnt its routes.
        wait_until_well(f"http://127.0.0.1:{port}/healthz")
        yield Proxy(QUANTRY, "this tree", Target(port, control.KEY, control.MODEL), process)


NGINX_CONF = """
worker_processes 1;
daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy; fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
  client_body_buffer_size 1m; client_max_body_size 10m; keepalive_requests 10000000;
  upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 256; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


@contextmanager
def nginx(site: Site) -> Iterator[Proxy]:
    """nginx with kept connections on both sides, answers passed on as they come."""
    found = site.nginx or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise peers.NotHere("nginx is not installed (Debian: apt-get install nginx), or elsewhere: --nginx PATH")
    version = peers.words([found, "-v"]).rpartition("/")[2]
    port = free_port()
    conf = site.scratch / "nginx.conf"
    conf.write_text(NGINX_CONF.format(scratch=site.scratch, engine_port=site.engine_port, port=port))
    command = [found, "-e", str(site.scratch / "nginx-error.log"), "-c", str(conf), "-p", str(site.scratch)]
    with running(command, port, site.cores.proxy, site.log(NGINX)) as process:
        yield Proxy(NGINX, version, Target(port, "none", control.MODEL), process)


@contextmanager
def litellm(site: Site) -> Iterator[Proxy]:
    """LiteLLM's proxy with one worker, one key and one model, without its database and its telemetry."""
    python = peers.environment(LITELLM, site.scratch)
    port = free_port()
    document = {
        "model_list": [
            {
                "model_name": control.MODEL,
                "litellm_params": {"model": f"hosted_vllm/{control.MODEL}", "api_base": f"{site.engine_url}/v1", "api_key": "none"},
            }
        ],
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"telemetry": False, "set_verbose": False},
    }
    config = site.scratch / "litellm.yaml"
    # JSON is YAML.
    config.write_text(json.dumps(document))
    variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1"}
    command = [str(python.parent / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with running(command, port, site.cores.proxy, site.log(LITELLM), environment=variables, cwd=site.scratch) as process:
        yield Proxy(LITELLM, peers.version_of(python, LITELLM), Target(port, "sk-bench", control.MODEL), process)


@contextmanager
def production_stack(site: Site) -> Iterator[Proxy]:
    """production-stack's router before one engine, named as on its own command line."""
    sources = peers.production_stack(site.production_stack)
    python = peers.environment(PRODUCTION_STACK, site.scratch)
    port = free_port()
    command = [str(python), "-m", "vllm_router.app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    command += ["--service-discovery", "static", "--static-backends", site.engine_url, "--static-models", control.MODEL]
    command += ["--routing-logic", "roundrobin"]
    with running(
        command, port, site.cores.proxy, site.log(PRODUCTION_STACK), environment={"PYTHONPATH": str(sources)}, cwd=site.scratch
    ) as process:
        version = peers.PRODUCTION_STACK_COMMIT[:12]
        yield Proxy(PRODUCTION_STACK, version, Target(port, "none", control.MODEL), process)


PROXIES: dict[str, Callable[[Site], AbstractContextManager[Proxy]]] = {
    QUANTRY: quantry,
    NGINX: nginx,
    LITELLM: litellm,
    PRODUCTION_STACK: production_stack,
}
