"""The CronJobs that back up, look and bring back: in which order, with which rights, and where to."""

from __future__ import annotations

from factories.chart.cases import DEV, EXTERNAL
from factories.chart.network import Place, may_pass, may_reach_outside
from factories.chart.rendering import Document, Pod, Rendered, Values, merged, render
from quantry_registry.backup.__main__ import _parser

IN_A_BUCKET: Values = merged(
    EXTERNAL,
    {"backup": {"enabled": True, "keep": 7, "bucket": {"name": "backups", "endpoint": "other:443", "existingSecret": "s3-backups"}}},
)
IN_A_CLAIM: Values = merged(DEV, {"backup": {"enabled": True}})


def pod_of(rendered: Rendered, name: str) -> Pod:
    cron_job = rendered.one("CronJob", name)
    return next(pod for pod in rendered.pods() if pod.owner is cron_job)


def secrets_of(pod: Pod) -> set[str]:
    sources = [source for volume in pod.spec["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    return {source["secret"]["name"] for source in sources}


def files_of(container: Document) -> set[str]:
    return {one["name"] for one in container["env"] if one["name"].endswith("_FILE")}


def test_what_is_old_goes_once_the_new_backup_is_whole() -> None:
    rendered = render(IN_A_BUCKET)
    cron_job, pod = rendered.one("CronJob", "backup"), pod_of(rendered, "backup")
    assert (cron_job["spec"]["concurrencyPolicy"], cron_job["spec"]["suspend"]) == ("Forbid", False)
    assert [one["command"][3:] for one in pod.containers] == [
        ["create", "s3://backups/quantry"],
        ["prune", "s3://backups/quantry", "--keep", "7"],
    ]
    assert [one["name"] for one in pod.spec["initContainers"]] == ["create"], "the next begins only where the first ended well"
    all_stay = render(merged(IN_A_BUCKET, {"backup": {"keep": 0}}))
    assert [one["command"][3] for one in pod_of(all_stay, "backup").containers] == ["create"]


def test_every_command_is_one_that_is_there() -> None:
    for pod in render(IN_A_BUCKET).pods():
        for container in pod.containers:
            if pod.component == "backup":
                assert container["command"][:3] == ["python", "-m", "quantry_registry.backup"]
                assert _parser().parse_args(container["command"][3:]).place == "s3://backups/quantry"


def test_each_has_the_keys_that_it_needs() -> None:
    rendered = render(IN_A_BUCKET)
    assert secrets_of(pod_of(rendered, "backup")) == {"the-database", "s3-read", "s3-backups"}, "it changes nothing of the platform's"
    assert secrets_of(pod_of(rendered, "backup-verify")) == {"s3-backups"}
    assert secrets_of(pod_of(rendered, "restore")) == {"the-database", "s3-all", "s3-backups"}
    (_, prune) = pod_of(rendered, "backup").containers
    assert files_of(prune) == {"QUANTRY_BACKUP_S3_ACCESS_KEY_FILE", "QUANTRY_BACKUP_S3_SECRET_KEY_FILE"}


def test_a_restore_never_starts_by_itself() -> None:
    spec = render(IN_A_BUCKET).one("CronJob", "restore")["spec"]
    assert spec["suspend"] is True
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert "--replace" not in str(spec)


def test_backups_without_a_bucket_outlive_the_release() -> None:
    rendered = render(IN_A_CLAIM)
    claim = rendered.one("PersistentVolumeClaim", "backups")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for name in ("backup", "backup-verify", "restore"):
        pod = pod_of(rendered, name)
        (volume,) = [one for one in pod.spec["volumes"] if one["name"] == "backups"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod.containers:
            (mount,) = [one for one in container["volumeMounts"] if one["name"] == "backups"]
            assert container["command"][4] == mount["mountPath"]
    mine = render(merged(IN_A_CLAIM, {"backup": {"claim": {"existingClaim": "mine"}}}))
    assert not [one for one in mine.of_kind("PersistentVolumeClaim") if one["metadata"]["name"].endswith("backups")]


def test_backups_on_the_platforms_own_server_are_reached_as_it_is() -> None:
    rendered = render(merged(DEV, {"backup": {"enabled": True, "bucket": {"name": "backups", "existingSecret": "s3-backups"}}}))
    environment = pod_of(rendered, "backup").environment("create")
    assert environment["QUANTRY_BACKUP_S3_ENDPOINT"] == environment["QUANTRY_S3_ENDPOINT"] == "prod-quantry-dev-s3:9000"
    assert environment["QUANTRY_BACKUP_S3_SECURE"] == environment["QUANTRY_S3_SECURE"] == "false"


def test_backups_reach_the_database_both_servers_and_nothing_else() -> None:
    def place(rendered: Rendered, component: str) -> Place:
        pod = next(pod for pod in rendered.pods() if pod.component == component)
        return Place.of(pod.namespace, pod.labels)

    trial = render(IN_A_CLAIM)
    backup = place(trial, "backup")
    ports = {"dev-postgres": 5432, "dev-redis": 6379, "dev-s3": 9000, "gateway": 8000, "api": 8001, "registry": 8002}
    reached = {component for component, port in ports.items() if may_pass(trial, backup, place(trial, component), port)}
    assert reached == {"dev-postgres", "dev-s3"}
    narrow: Values = {"networkPolicy": {"s3": {"to": [{"podSelector": {}}]}, "backup": {"ports": [8443]}}}
    elsewhere = render(merged(IN_A_BUCKET, narrow))
    asked = {22, 80, 443, 5432, 6379, 6443, 8443, 9000}
    assert {port for port in asked if may_reach_outside(elsewhere, place(elsewhere, "backup"), port)} == {5432, 8443}
