"""The manifests of infra/kubernetes match Kubernetes's schemas and stack.yml."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from infra.local.config.deployment import make_secrets
from infra.local.config.stack import read_stack
from tests.kustomize import Object, Unsupported, build, identity
from tests.stack import ROOT

OVERLAYS = sorted(path.name for path in (ROOT / "infra/kubernetes/overlays").iterdir())
STACK = yaml.safe_load((ROOT / "stack.yml").read_text(encoding="utf-8"))
SECRETS = "infra/kubernetes/secrets"

OLDEST, NEWEST = "1.27", "1.37"
"""Kubernetes versions whose schemas the manifests must match.

The oldest is the first in which a CronJob's timeZone is stable.
"""

CREATED_BY_OPENFAAS = {("openfaas", "Secret", "basic-auth")}
SERVER_KINDS = ("Deployment", "StatefulSet")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra with the secrets that `infra/local secrets` creates."""
    copy = tmp_path_factory.mktemp("kubernetes") / "infra"
    shutil.copytree(ROOT / "infra", copy, ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(ROOT / SECRETS, copy.parent / SECRETS, ignore=lambda _, names: {*names} - {"kustomization.yaml"})
    make_secrets(copy.parent / SECRETS, read_stack(ROOT, {}).functions)
    return copy


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, tree: Path) -> Path:
    return tree / "kubernetes/overlays" / str(request.param)


@pytest.fixture(scope="module")
def objects(overlay: Path) -> list[Object]:
    return build(overlay)


def secret_files() -> list[str]:
    content = yaml.safe_load((ROOT / SECRETS / "kustomization.yaml").read_text(encoding="utf-8"))
    return [name for entry in content["secretGenerator"] for name in entry["files"]]


def pod_spec(item: Object) -> Object | None:
    """Return the pod spec of a workload; None for other objects."""
    spec: Object = item.get("spec", {})
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template_spec: Object | None = spec["template"]["spec"] if "template" in spec else None
    return template_spec


def pod_labels(workload: Object) -> dict[str, str]:
    spec = workload["spec"]["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else workload["spec"]
    labels: dict[str, str] = spec["template"]["metadata"]["labels"]
    return labels


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for item in objects:
        for container in (pod_spec(item) or {}).get("containers", []):
            yield item, container


def find(objects: list[Object], kind: str, name: str) -> Object:
    return next(item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)


def references(item: Object) -> Iterator[tuple[str, str, set[str]]]:
    """Yield the kind and name of each object that a workload refers to, and the keys that the object must have."""
    spec = pod_spec(item) or {}
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            source = volume["secret"]
            yield "Secret", source["secretName"], {entry["key"] for entry in source.get("items", [])}
        elif "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], set()
        elif "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], set()
        else:
            assert "emptyDir" in volume, volume
    for container in spec.get("containers", []):
        assert "envFrom" not in container
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {"secretKeyRef": None})
            assert source.keys() == {"secretKeyRef"}, variable
            if source["secretKeyRef"]:
                yield "Secret", source["secretKeyRef"]["name"], {source["secretKeyRef"]["key"]}
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"], set()
    if item["kind"] == "StatefulSet":
        yield "Service", item["spec"]["serviceName"], set()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid_against_its_schema(objects: list[Object], version: str) -> None:
    for item in objects:
        kubernetes_validate.validate(item, version, strict=True)


def test_an_invalid_manifest_is_detected() -> None:
    service: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}, "spec": {"port": 8333}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, NEWEST, strict=True)


def test_every_reference_resolves(objects: list[Object]) -> None:
    existing = {identity(item): item for item in objects}
    for item in objects:
        for kind, name, keys in references(item):
            required = (item["metadata"]["namespace"], kind, name)
            if required not in CREATED_BY_OPENFAAS:
                assert keys <= existing[required].get("data", {}).keys(), required
        spec = pod_spec(item) or {}
        claims = item["spec"].get("volumeClaimTemplates", []) if item["kind"] == "StatefulSet" else []
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounts = [mount["name"] for container in spec.get("containers", []) for mount in container["volumeMounts"]]
        assert volumes == set(mounts), identity(item)


def test_every_namespace_is_known(objects: list[Object]) -> None:
    own = {item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"}
    used = {identity(item)[0] for item in objects if item["kind"] != "Namespace"}
    assert used <= own | {"openfaas", "openfaas-fn"}


def test_a_service_selects_one_workload_and_its_port(objects: list[Object]) -> None:
    for service in (item for item in objects if item["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        (workload,) = (
            item for item in objects if item["kind"] in SERVER_KINDS and selector <= pod_labels(item).items()
        )
        names = {port["name"] for container in pod_spec(workload)["containers"] for port in container["ports"]}  # type: ignore[index]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_no_service_selects_the_pods_of_the_other_s3_server(tree: Path) -> None:
    both = {name: build(tree / f"kubernetes/overlays/{name}") for name in ("seaweedfs", "minio")}
    for name, other in (("seaweedfs", "minio"), ("minio", "seaweedfs")):
        selector = find(both[name], "Service", "s3")["spec"]["selector"].items()
        assert selector <= pod_labels(find(both[name], "StatefulSet", name)).items()
        assert not selector <= pod_labels(find(both[other], "StatefulSet", other)).items()


def test_there_are_cron_jobs_instead_of_jobs(objects: list[Object]) -> None:
    """A Job's template is immutable, so a changed one could not be applied."""
    assert not [identity(item) for item in objects if item["kind"] == "Job"]


def test_all_cron_jobs_but_the_backup_are_suspended_and_all_have_a_deadline(objects: list[Object]) -> None:
    jobs = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "CronJob"}
    assert {name for name, spec in jobs.items() if not spec.get("suspend")} <= {"backup"}
    assert all("activeDeadlineSeconds" in spec["jobTemplate"]["spec"] for spec in jobs.values())


def test_broken_replicas_do_not_block_a_drain(objects: list[Object]) -> None:
    budgets = [item["spec"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    assert {spec["unhealthyPodEvictionPolicy"] for spec in budgets} == {"AlwaysAllow"}


def test_applying_keeps_a_paused_schedule_paused(objects: list[Object]) -> None:
    assert "replicas" not in find(objects, "Deployment", "cron-connector")["spec"]


def test_every_manifest_has_the_label_used_for_pruning(objects: list[Object]) -> None:
    for item in objects:
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rollcall", identity(item)


def test_images_are_pinned_to_a_version(objects: list[Object]) -> None:
    for item, container in containers(objects):
        assert re.search(r":[^:/]*\d+\.\d+[^:/]*$|:RELEASE\.\d{4}-", container["image"]), identity(item)


def test_every_container_has_resource_limits_and_a_restricted_security_context(objects: list[Object]) -> None:
    for item, container in containers(objects):
        resources = container["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, identity(item)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, identity(item)
        spec: Any = pod_spec(item)
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["runAsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_containers_with_ports_have_all_probes_and_others_none(objects: list[Object]) -> None:
    for item, container in containers(objects):
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        assert probes & container.keys() == (probes if "ports" in container else set()), identity(item)


def test_secret_values_appear_only_in_secrets(tree: Path, overlay: Path, objects: list[Object]) -> None:
    rest = yaml.safe_dump([item for item in objects if item["kind"] != "Secret"])
    for name in secret_files():
        assert (tree.parent / SECRETS / name).read_text(encoding="utf-8") not in rest, name
    assert (overlay.name != "external") == any(item["kind"] == "Secret" for item in objects)


def test_no_secret_is_in_infra() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "infra"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    files = [ROOT / line for line in listed.stdout.splitlines()]
    assert [str(path.relative_to(ROOT)) for path in files if "secrets" in path.parts] == [
        f"{SECRETS}/kustomization.yaml"
    ]
    for path in files:
        if path.suffix in (".yaml", ".yml") and path.exists():
            for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                assert not isinstance(item, dict) or item.get("kind") != "Secret", path


def test_the_backends_get_every_secret_of_the_functions_except_the_token() -> None:
    """Functions and backends get their secrets from the same files."""
    names = {name for function in STACK["functions"].values() for name in function["secrets"]} - {"rollcall-api-token"}
    assert names <= set(secret_files())


def selected_functions(selector: Object) -> set[str]:
    if "matchLabels" in selector:
        return {selector["matchLabels"]["faas_function"]}
    (expression,) = selector["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("faas_function", "In")
    return set(expression["values"])


def test_network_policies_and_disruption_budgets_select_the_functions_of_the_stack(objects: list[Object]) -> None:
    functions = set(STACK["functions"])
    budgets = [item["spec"]["selector"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    assert set().union(*(selected_functions(selector) for selector in budgets)) == functions
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    selectors = [item["spec"]["podSelector"] for item in policies if identity(item)[0] == "openfaas-fn"]
    selectors += [
        peer["podSelector"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for peer in rule["from"]
        if peer.get("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": "openfaas-fn"}}
    ]
    assert selectors
    for selector in selectors:
        assert selected_functions(selector) == functions


def test_a_backend_accepts_connections_only_from_the_functions_and_its_own_jobs(
    overlay: Path, objects: list[Object]
) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in objects
        if identity(item)[:2] == ("rollcall", "NetworkPolicy")
    }
    if overlay.name == "external":
        assert not policies
        return
    assert policies["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = {name: spec["ingress"] for name, spec in policies.items() if "ingress" in spec}
    name = "app.kubernetes.io/name"
    jobs: dict[str, Object] = {
        "postgres": {"matchExpressions": [{"key": name, "operator": "In", "values": ["backup", "schema"]}]},
        "s3": {"matchLabels": {name: "buckets"}},
    }
    for backend, port in {"postgres": 5432, "s3": 8333}.items():
        assert policies[backend]["podSelector"] == {"matchLabels": {name: backend}}
        assert policies[backend]["policyTypes"] == ["Ingress"]
        (rule,) = allowed.pop(backend)
        assert rule["ports"] == [{"port": port}]
        functions, own_jobs = rule["from"]
        assert functions["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "openfaas-fn"}
        assert own_jobs == {"podSelector": jobs[backend]}
    assert not allowed


def test_every_network_policy_selects_existing_pods(objects: list[Object]) -> None:
    """A policy for a label that no pod has would have no effect."""
    existing = {pod_labels(item)["app.kubernetes.io/name"] for item in objects if pod_spec(item)}
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    selected = set(re.findall(r"app\.kubernetes\.io/name: (\w[\w-]*)", yaml.safe_dump(policies)))
    for policy in policies:
        for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
            if expression["key"] == "app.kubernetes.io/name":
                selected.update(expression["values"])
    assert selected <= existing


def test_the_services_have_the_addresses_in_stack_yml(overlay: Path, objects: list[Object]) -> None:
    if overlay.name == "external":
        return
    for function in STACK["functions"].values():
        environment = {
            name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for name, text in function["environment"].items()
        }
        addresses = {f"{environment['postgres_host']}:{environment['postgres_port']}", environment["s3_endpoint"]}
        assert addresses == {
            f"{item['metadata']['name']}.{item['metadata']['namespace']}:{item['spec']['ports'][0]['port']}"
            for item in objects
            if item["kind"] == "Service"
        }


def test_unsupported_kustomize_features_are_errors(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("patches: []\nresources: []\n", encoding="utf-8")
    with pytest.raises(Unsupported, match="patches"):
        build(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator:\n- name: a\n  files: []\n", encoding="utf-8")
    with pytest.raises(Unsupported, match="disableNameSuffixHash"):
        build(tmp_path)


def test_kustomize_renders_the_same_manifests(overlay: Path, objects: list[Object]) -> None:
    kustomize = os.environ.get("KUSTOMIZE") or shutil.which("kustomize")
    if not kustomize:
        pytest.skip("no kustomize on the PATH or in $KUSTOMIZE")
    built = subprocess.run([kustomize, "build", overlay], check=True, capture_output=True, text=True, timeout=60)
    rendered = [item for item in yaml.safe_load_all(built.stdout) if item]
    for item in rendered:
        if item["kind"] == "Secret":  # kustomize breaks the lines of base64
            item["data"] = {name: "".join(text.split()) for name, text in item["data"].items()}
    assert sorted(rendered, key=identity) == sorted(objects, key=identity)
