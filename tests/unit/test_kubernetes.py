"""The manifests of infra/kubernetes: rendered, checked against Kubernetes's schemas, and agreeing with stack.yml."""

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
"""Versions of Kubernetes whose schemas the manifests must fit; the oldest is the first with a CronJob's timeZone."""

MADE_BY_OPENFAAS = {("openfaas", "Secret", "basic-auth")}
RUNNING = ("Deployment", "StatefulSet")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra with the secrets that `infra/local secrets` makes."""
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


def pod(one: Object) -> Object | None:
    """The pod's spec of what makes pods."""
    spec: Object = one.get("spec", {})
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: Object | None = spec["template"]["spec"] if "template" in spec else None
    return found


def labels(one: Object) -> dict[str, str]:
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    found: dict[str, str] = spec["template"]["metadata"]["labels"]
    return found


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for one in objects:
        for container in (pod(one) or {}).get("containers", []):
            yield one, container


def named(objects: list[Object], kind: str, name: str) -> Object:
    return next(one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)


def references(one: Object) -> Iterator[tuple[str, str, set[str]]]:
    """Kind and name of what a pod mounts or reads, and the keys that it wants there."""
    spec = pod(one) or {}
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            source = volume["secret"]
            yield "Secret", source["secretName"], {item["key"] for item in source.get("items", [])}
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
    if one["kind"] == "StatefulSet":
        yield "Service", one["spec"]["serviceName"], set()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_fits_its_schema(objects: list[Object], version: str) -> None:
    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)


def test_a_wrong_object_does_not_fit() -> None:
    service: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}, "spec": {"port": 8333}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, NEWEST, strict=True)


def test_what_is_named_is_there(objects: list[Object]) -> None:
    there = {identity(one): one for one in objects}
    for one in objects:
        for kind, name, keys in references(one):
            wanted = (one["metadata"]["namespace"], kind, name)
            if wanted not in MADE_BY_OPENFAAS:
                assert keys <= there[wanted].get("data", {}).keys(), wanted
        spec = pod(one) or {}
        claims = one["spec"].get("volumeClaimTemplates", []) if one["kind"] == "StatefulSet" else []
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounts = [mount["name"] for container in spec.get("containers", []) for mount in container["volumeMounts"]]
        assert volumes == set(mounts), identity(one)


def test_every_namespace_is_known(objects: list[Object]) -> None:
    own = {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
    assert {identity(one)[0] for one in objects if one["kind"] != "Namespace"} <= own | {"openfaas", "openfaas-fn"}


def test_a_service_finds_one_pod_and_its_port(objects: list[Object]) -> None:
    for service in (one for one in objects if one["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        (found,) = (one for one in objects if one["kind"] in RUNNING and selector <= labels(one).items())
        names = {port["name"] for container in pod(found)["containers"] for port in container["ports"]}  # type: ignore[index]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_no_service_finds_the_pods_of_the_other_store(tree: Path) -> None:
    both = {name: build(tree / f"kubernetes/overlays/{name}") for name in ("seaweedfs", "minio")}
    for name, other in (("seaweedfs", "minio"), ("minio", "seaweedfs")):
        selector = named(both[name], "Service", "s3")["spec"]["selector"].items()
        assert selector <= labels(named(both[name], "StatefulSet", name)).items()
        assert not selector <= labels(named(both[other], "StatefulSet", other)).items()


def test_a_second_apply_meets_nothing_that_cannot_change(objects: list[Object]) -> None:
    """A Job's template is immutable; a CronJob's is not."""
    assert not [identity(one) for one in objects if one["kind"] == "Job"]
    jobs = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "CronJob"}
    assert {name for name, spec in jobs.items() if not spec.get("suspend")} <= {"backup"}
    assert all("activeDeadlineSeconds" in spec["jobTemplate"]["spec"] for spec in jobs.values())


def test_a_drain_is_not_held_up_by_replicas_that_are_broken(objects: list[Object]) -> None:
    budgets = [one["spec"] for one in objects if one["kind"] == "PodDisruptionBudget"]
    assert {spec["unhealthyPodEvictionPolicy"] for spec in budgets} == {"AlwaysAllow"}


def test_a_paused_schedule_stays_so_at_an_apply(objects: list[Object]) -> None:
    assert "replicas" not in named(objects, "Deployment", "cron-connector")["spec"]


def test_everything_has_the_label_that_is_pruned_and_removed_by(objects: list[Object]) -> None:
    for one in objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "rollcall", identity(one)


def test_images_are_pinned_to_a_version(objects: list[Object]) -> None:
    for one, container in containers(objects):
        assert re.search(r":[^:/]*\d+\.\d+[^:/]*$|:RELEASE\.\d{4}-", container["image"]), identity(one)


def test_every_container_is_bounded(objects: list[Object]) -> None:
    for one, container in containers(objects):
        resources = container["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, identity(one)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, identity(one)
        spec: Any = pod(one)
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["runAsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_what_serves_is_probed(objects: list[Object]) -> None:
    for one, container in containers(objects):
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        assert probes & container.keys() == (probes if "ports" in container else set()), identity(one)


def test_the_secrets_are_in_secrets_alone(tree: Path, overlay: Path, objects: list[Object]) -> None:
    rest = yaml.safe_dump([one for one in objects if one["kind"] != "Secret"])
    for name in secret_files():
        assert (tree.parent / SECRETS / name).read_text(encoding="utf-8") not in rest, name
    assert (overlay.name != "external") == any(one["kind"] == "Secret" for one in objects)


def test_no_secret_is_in_the_tree() -> None:
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
            for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                assert not isinstance(one, dict) or one.get("kind") != "Secret", path


def test_every_secret_of_the_functions_has_its_counterpart() -> None:
    """What faas-cli gives the functions is what the stores are told: by the same file. The API token is not theirs."""
    wanted = {name for function in STACK["functions"].values() for name in function["secrets"]} - {"rollcall-api-token"}
    assert wanted <= set(secret_files())


def functions_selected(selector: Object) -> set[str]:
    if "matchLabels" in selector:
        return {selector["matchLabels"]["faas_function"]}
    (expression,) = selector["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("faas_function", "In")
    return set(expression["values"])


def test_policies_select_the_functions_of_the_stack(objects: list[Object]) -> None:
    functions = set(STACK["functions"])
    budgets = [one["spec"]["selector"] for one in objects if one["kind"] == "PodDisruptionBudget"]
    assert set().union(*(functions_selected(selector) for selector in budgets)) == functions
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    selectors = [one["spec"]["podSelector"] for one in policies if identity(one)[0] == "openfaas-fn"]
    selectors += [
        peer["podSelector"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for peer in rule["from"]
        if peer.get("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": "openfaas-fn"}}
    ]
    assert selectors
    for selector in selectors:
        assert functions_selected(selector) == functions


def test_only_the_functions_and_the_own_jobs_reach_a_store(overlay: Path, objects: list[Object]) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in objects if identity(one)[:2] == ("rollcall", "NetworkPolicy")
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
    for store, port in {"postgres": 5432, "s3": 8333}.items():
        (rule,) = allowed.pop(store)
        assert rule["ports"] == [{"port": port}]
        outside, inside = rule["from"]
        assert outside["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "openfaas-fn"}
        assert inside == {"podSelector": jobs[store]}
    assert not allowed


def test_every_pod_behind_a_policy_is_one_that_there_is(objects: list[Object]) -> None:
    """A label that no pod carries makes a policy that says nothing."""
    there = {labels(one)["app.kubernetes.io/name"] for one in objects if pod(one)}
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    named = set(re.findall(r"app\.kubernetes\.io/name: (\w[\w-]*)", yaml.safe_dump(policies)))
    for policy in policies:
        for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
            if expression["key"] == "app.kubernetes.io/name":
                named.update(expression["values"])
    assert named <= there


def test_the_stores_are_where_the_stack_looks_for_them(overlay: Path, objects: list[Object]) -> None:
    if overlay.name == "external":
        return
    for function in STACK["functions"].values():
        environment = {
            name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for name, text in function["environment"].items()
        }
        addresses = {f"{environment['postgres_host']}:{environment['postgres_port']}", environment["s3_endpoint"]}
        assert addresses == {
            f"{one['metadata']['name']}.{one['metadata']['namespace']}:{one['spec']['ports'][0]['port']}"
            for one in objects
            if one["kind"] == "Service"
        }


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("patches: []\nresources: []\n", encoding="utf-8")
    with pytest.raises(Unsupported, match="patches"):
        build(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator:\n- name: a\n  files: []\n", encoding="utf-8")
    with pytest.raises(Unsupported, match="disableNameSuffixHash"):
        build(tmp_path)


def test_kustomize_renders_the_same(overlay: Path, objects: list[Object]) -> None:
    kustomize = os.environ.get("KUSTOMIZE") or shutil.which("kustomize")
    if not kustomize:
        pytest.skip("no kustomize on the PATH or in $KUSTOMIZE to compare with")
    built = subprocess.run([kustomize, "build", overlay], check=True, capture_output=True, text=True, timeout=60)
    theirs = [one for one in yaml.safe_load_all(built.stdout) if one]
    for one in theirs:
        if one["kind"] == "Secret":  # base64 is the same with line breaks
            one["data"] = {name: "".join(text.split()) for name, text in one["data"].items()}
    assert sorted(theirs, key=identity) == sorted(objects, key=identity)
