"""Every installation with every difference: what it makes is valid, locked down, and fits together."""

from __future__ import annotations

from factories.chart import pod_security, schemas
from factories.chart.cases import CASES, in_every_case
from factories.chart.network import Place, policies_of
from factories.chart.rendering import FULLNAME, NAMESPACE, Document, Rendered, matches, words

LABELS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/version",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}
WORKLOADS = ("Deployment", "StatefulSet")


def test_there_are_more_than_a_hundred_cases() -> None:
    assert len(CASES) >= 100


@in_every_case
def test_kubernetes_takes_it(rendered: Rendered) -> None:
    problems = [problem for document in rendered.documents for problem in schemas.problems_of(document)]
    assert not problems, words(problems)


@in_every_case
def test_every_pod_is_restricted(rendered: Rendered) -> None:
    problems = [problem for pod in rendered.pods() for problem in pod_security.problems_of(pod)]
    assert not problems, words(problems)


@in_every_case
def test_every_pod_has_the_charts_habits(rendered: Rendered) -> None:
    problems = [problem for pod in rendered.pods() for problem in pod_security.habits_of(pod)]
    assert not problems, words(problems)


@in_every_case
def test_only_who_asks_the_cluster_has_a_token(rendered: Rendered) -> None:
    accounts = rendered.of_kind("ServiceAccount")
    assert {account["automountServiceAccountToken"] for account in accounts} == {False}
    with_token = {pod.component for pod in rendered.pods() if pod.spec["automountServiceAccountToken"]}
    assert with_token <= {"deploy", "bootstrap"}
    bound = {subject["name"] for one in rendered.of_kind("RoleBinding") for subject in one["subjects"]}
    assert bound == {pod.spec["serviceAccountName"] for pod in rendered.pods() if pod.component in with_token}
    assert not rendered.of_kind("ClusterRole", "ClusterRoleBinding")


@in_every_case
def test_names_are_unique_and_short(rendered: Rendered) -> None:
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered.documents]
    assert len(names) == len(set(names))
    assert max(len(name) for _, _, name in names) <= 63


@in_every_case
def test_every_object_is_labelled_and_placed(rendered: Rendered) -> None:
    for document in rendered.documents:
        if document["metadata"]["name"] == "prod-mine":
            continue  # of extraObjects: whoever wrote it labels it
        metadata = document["metadata"]
        assert set(metadata["labels"]) >= LABELS, document["kind"]
        assert metadata["namespace"] in {NAMESPACE, "quantry-pools"}, document["kind"]


@in_every_case
def test_every_selector_finds_what_it_means_and_nothing_else(rendered: Rendered) -> None:
    pods = rendered.pods()
    for workload in rendered.of_kind(*WORKLOADS):
        selector = workload["spec"]["selector"]["matchLabels"]
        found = [pod.name for pod in pods if matches(selector, pod.labels)]
        assert found == [f"{workload['kind']}/{workload['metadata']['name']}"]
    for budget in rendered.of_kind("PodDisruptionBudget"):
        found = [pod.name for pod in pods if matches(budget["spec"]["selector"]["matchLabels"], pod.labels)]
        assert found == [f"Deployment/{budget['metadata']['name']}"]
    for autoscaler in rendered.of_kind("HorizontalPodAutoscaler"):
        target = autoscaler["spec"]["scaleTargetRef"]
        (deployment,) = [one for one in rendered.of_kind(target["kind"]) if one["metadata"]["name"] == target["name"]]
        assert "replicas" not in deployment["spec"], "the two would undo each other at every upgrade"


@in_every_case
def test_every_port_of_a_service_is_one_of_its_pods(rendered: Rendered) -> None:
    for service in rendered.of_kind("Service"):
        found = [pod for pod in rendered.pods() if matches(service["spec"]["selector"], pod.labels)]
        assert len(found) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in found[0].ports, (service["metadata"]["name"], port)


@in_every_case
def test_every_monitor_finds_a_port(rendered: Rendered) -> None:
    for monitor in rendered.of_kind("ServiceMonitor"):
        found = [
            one for one in rendered.of_kind("Service") if matches(monitor["spec"]["selector"]["matchLabels"], one["metadata"]["labels"])
        ]
        assert len(found) == 1, monitor["metadata"]["name"]
        names = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= names
    for monitor in rendered.of_kind("PodMonitor"):
        if monitor["metadata"]["labels"]["app.kubernetes.io/component"] == "engine":
            continue  # the controller makes those pods
        for pod in rendered.pods():
            if matches(monitor["spec"]["selector"]["matchLabels"], pod.labels):
                assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= set(pod.ports)


@in_every_case
def test_every_service_is_probed(rendered: Rendered) -> None:
    for pod in rendered.pods():
        if pod.owner["kind"] in {"Job", "CronJob", "Pod"}:
            continue
        for container in pod.spec["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), pod.name
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container[probe].get("httpGet", container[probe].get("tcpSocket", {})).get("port")
                assert port is None or port in pod.ports


@in_every_case
def test_policies_hold_for_every_pod(rendered: Rendered) -> None:
    if not rendered.of_kind("NetworkPolicy"):
        return
    for pod in rendered.pods():
        policies = policies_of(rendered, Place.of(pod.namespace, pod.labels))
        assert any(_denies(policy) for policy in policies), f"{pod.name}: nothing is denied"
        assert len(policies) == 2, f"{pod.name}: one denies, one allows what it needs; there are {len(policies)}"


def _denies(policy: Document) -> bool:
    spec = policy["spec"]
    return spec["policyTypes"] == ["Ingress", "Egress"] and not spec.get("ingress") and not spec.get("egress")


@in_every_case
def test_hooks_need_nothing_that_comes_after_them(rendered: Rendered) -> None:
    made = {
        (one["kind"], one["metadata"]["name"]) for one in rendered.documents if "helm.sh/hook" not in one["metadata"].get("annotations", {})
    }
    for document in rendered.of_kind("Job", "Pod"):
        hook = document["metadata"].get("annotations", {}).get("helm.sh/hook", "")
        if "pre-install" not in hook:
            continue
        (pod,) = [pod for pod in rendered.pods() if pod.owner is document]
        assert ("ServiceAccount", pod.spec["serviceAccountName"]) not in made
        used = [source["secret"]["name"] for volume in pod.spec["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        assert used
        assert not {("Secret", name) for name in used} & made


@in_every_case
def test_a_secrets_content_is_nowhere_else(rendered: Rendered) -> None:
    kept = [value for secret in rendered.of_kind("Secret") for value in (secret.get("stringData") or {}).values()]
    others = [str(one) for one in rendered.documents if one["kind"] != "Secret"] + [rendered.notes]
    assert not [text for text in others for value in kept if value in text]
    (name,) = {secret["metadata"]["name"] for secret in rendered.of_kind("Secret") if "data" in secret or "stringData" in secret} or {""}
    assert name in {"", f"{FULLNAME}-dev", "forge-of-models-dev"}
