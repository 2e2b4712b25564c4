"""The commands of the Kubernetes guide and of OPERATIONS.md work with a real API server."""

import itertools
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster import KUBECONFIG, Nodes, kubectl, list_objects, openfaas_cluster
from tests.guides import OPERATIONS, OVERLAYS, Shell, commands, shell, tasks
from tests.kustomize import build, identity
from tests.stack import ROOT

pytestmark = pytest.mark.skipif(KUBECONFIG is None, reason="ROLLCALL_TEST_KUBECONFIG is not set")

GUIDE = ROOT / "infra/kubernetes/README.md"
OVERLAY_NAMES = sorted(path.name for path in OVERLAYS.iterdir())
SELECTOR = "app.kubernetes.io/part-of=rollcall"
PRUNED_KINDS = ("services", "configmaps", "deployments", "statefulsets", "jobs", "cronjobs", "networkpolicies", "pdb")
UNPRUNED_KINDS = ("Namespace", "Secret", "PersistentVolumeClaim")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with openfaas_cluster() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def cluster(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell for the guides' commands, whose kubectl uses the test cluster."""
    path = shutil.which("kubectl")
    assert path
    assert KUBECONFIG
    sleep = f'exec {shutil.which("sleep")} "$@"'
    return shell(tmp_path_factory.mktemp("cluster"), "kubernetes", KUBECTL=path, KUBECONFIG=KUBECONFIG, SLEEP=sleep)


def apply(cluster: Shell, overlay: str) -> str:
    output, _ = cluster.run("infra/kubernetes/apply.sh", OVERLAY=f"infra/kubernetes/overlays/{overlay}")
    return output


def existing_objects() -> set[tuple[str, str, str]]:
    return {identity(item) for item in list_objects(*PRUNED_KINDS, selector=SELECTOR)}


def rendered_objects(cluster: Shell, overlay: str) -> set[tuple[str, str, str]]:
    objects = build(cluster.tree / "infra/kubernetes/overlays" / overlay)
    return {identity(item) for item in objects if item["kind"] not in UNPRUNED_KINDS}


@pytest.mark.parametrize("overlay", OVERLAY_NAMES)
def test_applying_an_overlay_again_prunes_nothing_and_passes_strict_validation(cluster: Shell, overlay: str) -> None:
    apply(cluster, overlay)
    output = apply(cluster, overlay)
    assert "pruned" not in output
    directory = cluster.tree / "infra/kubernetes/overlays" / overlay
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "--dry-run=server",
        f"--kustomize={directory}",
    )


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(OVERLAY_NAMES, 2)))
def test_switching_overlays_removes_the_objects_of_the_old_one_in_shared_namespaces(
    cluster: Shell, old: str, new: str
) -> None:
    apply(cluster, old)
    assert rendered_objects(cluster, old) <= existing_objects()
    apply(cluster, new)
    remaining = existing_objects() - rendered_objects(cluster, new)
    assert {item for item in remaining if item[0] != "rollcall" or new != "external"} == set()
    assert rendered_objects(cluster, new) <= existing_objects()
    if new == "external":  # as OPERATIONS.md says, once the external servers work
        kubectl("delete", "namespace", "rollcall")
        assert existing_objects() == rendered_objects(cluster, new)


def test_consecutive_restores_each_use_their_own_dump(cluster: Shell) -> None:
    apply(cluster, "seaweedfs")
    outputs = [cluster.run(f"infra/kubernetes/job.sh restore DUMP={dump}")[0] for dump in ("a.dump", "b.dump")]
    dumps = []
    for output in outputs:
        name = output.split()[0].removeprefix("job.batch/")
        (job,) = [item for item in list_objects("jobs") if item["metadata"]["name"] == name]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        dumps += [item["value"] for item in container["env"] if item["name"] == "DUMP"]
        assert job["status"]["succeeded"] == 1
    assert dumps == ["a.dump", "b.dump"]
    (cronjob,) = [item for item in list_objects("cronjobs") if item["metadata"]["name"] == "restore"]
    (container,) = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "DUMP" in [item["name"] for item in container["env"] if not item.get("value")]


def test_job_sh_fails_if_the_pod_of_its_job_fails(cluster: Shell, nodes: Nodes) -> None:
    apply(cluster, "seaweedfs")
    nodes.failing.add("backup")  # the pods of both jobs, backup and restore, have this label
    try:
        output, _ = cluster.run("infra/kubernetes/job.sh restore", check=False)
    finally:
        nodes.failing.clear()
    assert output.endswith("failed\nexit status 1")


def test_applying_another_overlay_keeps_a_paused_schedule_paused(cluster: Shell) -> None:
    apply(cluster, "seaweedfs")
    kubectl("--namespace=openfaas", "scale", "deployment/cron-connector", "--replicas=0")
    apply(cluster, "minio")
    (schedule,) = [item for item in list_objects("deployments") if item["metadata"]["name"] == "cron-connector"]
    assert schedule["spec"]["replicas"] == 0
    kubectl("--namespace=openfaas", "scale", "deployment/cron-connector", "--replicas=1")


def test_the_install_commands_create_all_objects_of_the_overlay(cluster: Shell) -> None:
    cluster.run(commands(GUIDE, "Install", "kubernetes"))
    assert rendered_objects(cluster, "seaweedfs") <= existing_objects()


@pytest.mark.parametrize("heading", [heading for heading, platform in tasks() if platform == "kubernetes"])
def test_the_commands_of_each_task_succeed_in_a_cluster(cluster: Shell, heading: str) -> None:
    apply(cluster, "seaweedfs")
    cluster.run(commands(OPERATIONS, "Operations", "kubernetes") + commands(OPERATIONS, heading, "kubernetes"))
    if heading == "Uninstall":
        assert existing_objects() == set()
        assert "rollcall" not in {item["metadata"]["name"] for item in list_objects("namespaces")}


def test_the_patches_of_a_custom_kustomization_are_applied(cluster: Shell) -> None:
    overlay = cluster.tree.parent / "custom"
    overlay.mkdir()
    blocks = GUIDE.read_text(encoding="utf-8").split("```")
    (block,) = [text for text in blocks if text.startswith("yaml\nresources:")]
    text = block.removeprefix("yaml\n").replace("../rollcall/", f"../{cluster.tree.name}/")
    (overlay / "kustomization.yaml").write_text(text, encoding="utf-8")
    kubectl("delete", "namespace", "rollcall", "--ignore-not-found")
    cluster.run("infra/kubernetes/apply.sh", OVERLAY=str(overlay))
    (statefulset,) = [item for item in list_objects("statefulsets") if item["metadata"]["name"] == "postgres"]
    template = statefulset["spec"]["volumeClaimTemplates"][0]["spec"]
    assert template["resources"]["requests"]["storage"] == "200Gi"
    assert "cron-connector" not in {item["metadata"]["name"] for item in list_objects("deployments")}
