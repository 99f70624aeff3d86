"""Which part gets what, and how supervisord is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from quantry_local.account import Account
from quantry_local.errors import StackError
from quantry_local.folders import Folders
from quantry_local.installation import Installation
from quantry_local.layout import Layout
from quantry_local.leftovers import STACK_VARIABLE, stack_mark
from quantry_local.ports import Ports
from quantry_local.secret_values import Secrets
from quantry_local.stack import STOP_DEADLINE_S, STOP_ORDER
from quantry_local.supervisor_config import SupervisorFiles, render_config

SECRETS = Secrets(
    redis_password="secret-redis",
    s3_access_key="access-key",
    s3_secret_key="secret-s3",
    capture_key="secret-capture",
    webhook_key="secret-webhook",
    admin_key="secret-admin",
    worker_token="secret-worker",
    gateway_token="secret-gateway",
)

UNWANTED = {
    "AWS_SECRET_ACCESS_KEY": "secret-aws",
    "HF_TOKEN": "secret-hub",
    "PYTHONPATH": "/home/me/lib",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PGOPTIONS": "-c search_path=mine",
    "PGSSLMODE": "verify-full",
}


def layout_of(state_dir: Path, account: Account | None = None) -> Layout:
    return Layout(
        folders=Folders(state_dir, account, state_dir / "postgres", state_dir / "run"),
        installation=Installation(Path("/opt/q"), Path("/opt/q/light"), Path("/opt/q/ml"), Path("/opt/q/engine"), Path("/opt/q/serve.py")),
        ports=Ports(gateway=8321, redis=1001, s3=1002, registry=1003, api=1004, deploy=1005, dashboard=1006),
        secrets=SECRETS,
        import_roots=[Path("/opt/q/examples"), Path("/models")],
        settings={"QUANTRY_LEASE_S": "10"},
        inherited={"PATH": "/bin", "HTTPS_PROXY": "http://proxy", "QUANTRY_API_KEY": "the caller's", STACK_VARIABLE: "/other", **UNWANTED},
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return layout_of(tmp_path)


def test_parts_start_from_the_servers_up_and_stop_the_other_way_round(layout: Layout) -> None:
    names = [part.name for part in layout.parts()]
    assert names == ["postgres", "redis", "s3", "registry", "api", "gateway", "worker", "deploy", "dashboard"]
    stopped = [name for stage in STOP_ORDER for name in stage]
    assert sorted(stopped) == sorted(names)
    place = {name: stopped.index(name) for name in names}
    assert max(place["worker"], place["dashboard"]) < place["gateway"] < place["api"] < place["postgres"]


def test_no_secret_stands_in_a_command_line(layout: Layout) -> None:
    for part in layout.parts():
        assert not any(secret in " ".join(part.launch.command) for secret in SECRETS.model_dump().values()), part.name


def test_each_part_gets_only_the_secrets_it_needs(layout: Layout) -> None:
    holders = {
        secret: {part.name for part in layout.parts() if secret in json.dumps(part.launch.environment)}
        for secret in SECRETS.model_dump().values()
    }
    assert holders == {
        "secret-redis": {"api", "worker"},
        "access-key": {"s3", "registry", "api", "worker", "deploy"},
        "secret-s3": {"s3", "registry", "api", "worker", "deploy"},
        "secret-capture": {"registry", "api"},
        "secret-webhook": {"api"},
        "secret-admin": set(),
        "secret-worker": {"worker"},
        "secret-gateway": {"gateway"},
    }


def test_the_worker_holds_no_database_address(layout: Layout) -> None:
    with_database = {part.name for part in layout.parts() if "QUANTRY_DATABASE_URL" in part.launch.environment}
    assert with_database == {"registry", "api", "deploy"}


def test_every_process_carries_the_mark_and_nothing_of_the_callers_settings(layout: Layout) -> None:
    for part in layout.parts():
        assert part.launch.environment[STACK_VARIABLE] == stack_mark(layout.folders.state_dir)
        assert "QUANTRY_API_KEY" not in part.launch.environment
    assert all(part.launch.environment["HTTPS_PROXY"] == "http://proxy" for part in layout.services())


def test_services_inherit_the_way_out_and_nothing_that_is_secret_or_changes_them(layout: Layout) -> None:
    for launch in [layout.migrate().launch, layout.bootstrap().launch, *(part.launch for part in layout.parts())]:
        assert not UNWANTED.keys() & launch.environment.keys()
        assert not any(value in launch.model_dump_json() for value in ("secret-aws", "secret-hub"))
    wanted = {"LC_TIME": "C", "https_proxy": "http://p", "SSL_CERT_FILE": "/c", "HF_ENDPOINT": "http://h", "CUDA_VISIBLE_DEVICES": "1"}
    worker = next(part for part in replace(layout, inherited=wanted).services() if part.name == "worker")
    assert wanted.items() <= worker.launch.environment.items()


def test_the_worker_and_deploy_start_engines_alike(layout: Layout) -> None:
    for part in layout.services():
        if part.name in {"worker", "deploy"}:
            variables = part.launch.environment
            assert (variables["QUANTRY_ENGINE_PYTHON"], variables["QUANTRY_ENGINE_SCRIPT"]) == ("/opt/q/engine", "/opt/q/serve.py")


def test_llama_cpp_is_started_where_its_environment_was_built(layout: Layout) -> None:
    built = replace(layout, installation=replace(layout.installation, llama_cpp_python=Path("/opt/q/llama")))
    for stack, expected in ((layout, None), (built, "/opt/q/llama")):
        given = {part.name: part.launch.environment.get("QUANTRY_LLAMA_CPP_PYTHON") for part in stack.services()}
        assert given.pop("deploy") == expected
        assert set(given.values()) == {None}


def test_import_roots_reach_the_api_and_the_worker(layout: Layout) -> None:
    roots = {part.name: part.launch.environment.get("QUANTRY_IMPORT_ROOTS") for part in layout.services()}
    assert roots["api"] == roots["worker"] == "/opt/q/examples:/models"


def test_keys_for_imports_and_documents_of_tasks_reach_the_worker_alone(layout: Layout) -> None:
    keys = {"QUANTRY_HF_TOKEN": "hub", "QUANTRY_IMPORT_S3_SECRET_KEY": "other", "QUANTRY_DATASETS_CACHE": "/datasets"}
    given = replace(layout, inherited={**layout.inherited, **keys, "QUANTRY_IMPORT_BUCKETS": "models"})
    for part in given.services():
        environment = part.launch.environment
        assert ({name: environment.get(name) for name in keys} == keys) == (part.name == "worker")
        assert ("QUANTRY_IMPORT_BUCKETS" in environment) == (part.name in {"worker", "api"})
        assert "HF_TOKEN" not in environment


def test_chosen_settings_reach_every_service_and_no_server(layout: Layout) -> None:
    told = {part.name for part in layout.parts() if part.launch.environment.get("QUANTRY_LEASE_S") == "10"}
    assert told == {part.name for part in layout.services()}


def test_postgres_alone_runs_as_the_lent_account(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, Account("nobody", 65534, 65533))
    assert [(part.name, part.launch.uid, part.launch.gid) for part in layout.parts() if part.launch.uid is not None] == [
        ("postgres", 65534, 65533)
    ]


def test_supervisord_reads_the_configuration_as_meant(layout: Layout) -> None:
    state_dir = layout.folders.state_dir / "my stack; and more"
    state_dir.mkdir()
    layout = layout_of(state_dir)
    files = SupervisorFiles(layout.folders)
    for folder in (files.home, files.socket.parent, layout.folders.logs):
        folder.mkdir(parents=True)
    files.config.write_text(render_config(files, layout.parts(), Path("/opt/my python")))
    options = ServerOptions()
    options.realize(["-c", str(files.config)])
    programs = {config.name: config for group in options.process_group_configs for config in group.process_configs}
    assert list(programs) == [part.name for part in layout.parts()]
    postgres = programs["postgres"]
    assert postgres.command == f"'/opt/my python' -m quantry_local.launch '{state_dir}/supervisor/postgres.json'"
    assert postgres.stdout_logfile == f"{state_dir}/logs/postgres.log"
    assert postgres.stopsignal.name == "SIGINT"
    assert not postgres.autostart
    assert postgres.killasgroup
    assert options.unlink_pidfile is False
    assert options.configroot.supervisord.pidfile == f"{state_dir}/supervisor/supervisord.pid"


def test_no_part_may_take_longer_to_stop_than_the_whole(layout: Layout) -> None:
    assert max(part.stop_wait_s for part in layout.parts()) < STOP_DEADLINE_S


@pytest.mark.parametrize("name", ["a ;b", "50%off", "two\nlines"])
def test_a_path_that_configuration_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    layout = layout_of(tmp_path / name)
    with pytest.raises(StackError, match="choose another --state-dir"):
        render_config(SupervisorFiles(layout.folders), layout.parts(), Path("/opt/python"))


def test_the_configuration_holds_no_secret(layout: Layout) -> None:
    text = render_config(SupervisorFiles(layout.folders), layout.parts(), Path("/opt/python"))
    assert not any(secret in text for secret in SECRETS.model_dump().values())
