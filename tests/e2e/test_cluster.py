"""The guides' commands against a real API server: what is applied, switched, run again and removed."""

import itertools
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster import KUBECONFIG, Nodes, kubectl, listed, prepared
from tests.guides import OPERATIONS, OVERLAYS, Shell, commands, events, shell
from tests.kustomize import build, identity
from tests.stack import ROOT

pytestmark = pytest.mark.skipif(KUBECONFIG is None, reason="no cluster for tests is named by ROLLCALL_TEST_KUBECONFIG")

GUIDE = ROOT / "infra/kubernetes/README.md"
NAMES = sorted(path.name for path in OVERLAYS.iterdir())
SELECTOR = "app.kubernetes.io/part-of=rollcall"
PRUNED = ("services", "configmaps", "deployments", "statefulsets", "jobs", "cronjobs", "networkpolicies", "pdb")
HAS_DATA = ("Namespace", "Secret", "PersistentVolumeClaim")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with prepared() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def cluster(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell of the guide, with a real kubectl."""
    real = shutil.which("kubectl")
    assert real
    assert KUBECONFIG
    sleep = f'exec {shutil.which("sleep")} "$@"'
    return shell(tmp_path_factory.mktemp("cluster"), "kubernetes", KUBECTL=real, KUBECONFIG=KUBECONFIG, SLEEP=sleep)


def apply(cluster: Shell, overlay: str) -> str:
    printed, _ = cluster.run("infra/kubernetes/apply.sh", OVERLAY=f"infra/kubernetes/overlays/{overlay}")
    return printed


def there() -> set[tuple[str, str, str]]:
    return {identity(one) for one in listed(*PRUNED, selector=SELECTOR)}


def rendered(cluster: Shell, overlay: str) -> set[tuple[str, str, str]]:
    objects = build(cluster.tree / "infra/kubernetes/overlays" / overlay)
    return {identity(one) for one in objects if one["kind"] not in HAS_DATA}


@pytest.mark.parametrize("overlay", NAMES)
def test_an_overlay_is_applied_strictly_and_again(cluster: Shell, overlay: str) -> None:
    apply(cluster, overlay)
    printed = apply(cluster, overlay)
    assert "pruned" not in printed
    directory = cluster.tree / "infra/kubernetes/overlays" / overlay
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "--dry-run=server",
        f"--kustomize={directory}",
    )


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(NAMES, 2)))
def test_a_switch_leaves_nothing_of_the_other_overlay_but_data(cluster: Shell, old: str, new: str) -> None:
    apply(cluster, old)
    assert rendered(cluster, old) <= there()
    apply(cluster, new)
    left = there() - rendered(cluster, new)
    assert {one for one in left if one[0] != "rollcall" or new != "external"} == set()
    assert rendered(cluster, new) <= there()
    if new == "external":  # as the guide says, when its own servers work
        kubectl("delete", "namespace", "rollcall")
        assert there() == rendered(cluster, new)


def test_two_restores_in_a_row_take_their_own_dumps(cluster: Shell) -> None:
    apply(cluster, "seaweedfs")
    printed = [cluster.run(f"infra/kubernetes/job.sh restore DUMP={dump}")[0] for dump in ("a.dump", "b.dump")]
    dumps = []
    for text in printed:
        name = text.split()[0].removeprefix("job.batch/")
        (job,) = [one for one in listed("jobs") if one["metadata"]["name"] == name]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        dumps += [one["value"] for one in container["env"] if one["name"] == "DUMP"]
        assert job["status"]["succeeded"] == 1
    assert dumps == ["a.dump", "b.dump"]
    (cronjob,) = [one for one in listed("cronjobs") if one["metadata"]["name"] == "restore"]
    (container,) = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "DUMP"} in [{"name": one["name"]} for one in container["env"] if not one.get("value")]


def test_a_job_whose_pod_fails_fails_the_command(cluster: Shell, nodes: Nodes) -> None:
    apply(cluster, "seaweedfs")
    nodes.failing.add("backup")  # the label of both jobs that have the volume
    try:
        printed, _ = cluster.run("infra/kubernetes/job.sh restore", check=False)
    finally:
        nodes.failing.clear()
    assert printed.endswith("failed\nexit status 1")


def test_a_paused_schedule_stays_paused_at_an_apply(cluster: Shell) -> None:
    apply(cluster, "seaweedfs")
    kubectl("--namespace=openfaas", "scale", "deployment/cron-connector", "--replicas=0")
    apply(cluster, "minio")
    (schedule,) = [one for one in listed("deployments") if one["metadata"]["name"] == "cron-connector"]
    assert schedule["spec"]["replicas"] == 0
    kubectl("--namespace=openfaas", "scale", "deployment/cron-connector", "--replicas=1")


def test_from_nothing_to_a_first_run(cluster: Shell) -> None:
    cluster.run(commands(GUIDE, "From nothing to a first run", "kubernetes"))
    assert rendered(cluster, "seaweedfs") <= there()


@pytest.mark.parametrize("heading", [heading for heading, platform in events() if platform == "kubernetes"])
def test_each_event(cluster: Shell, heading: str) -> None:
    apply(cluster, "seaweedfs")
    cluster.run(commands(OPERATIONS, "Operations", "kubernetes") + commands(OPERATIONS, heading, "kubernetes"))
    if heading == "Remove everything":
        assert there() == set()
        assert "rollcall" not in {one["metadata"]["name"] for one in listed("namespaces")}


def test_a_kustomization_of_ones_own_keeps_its_patches(cluster: Shell) -> None:
    own = cluster.tree.parent / "own"
    own.mkdir()
    blocks = GUIDE.read_text(encoding="utf-8").split("```")
    (block,) = [text for text in blocks if text.startswith("yaml\nresources:")]
    text = block.removeprefix("yaml\n").replace("../rollcall/", f"../{cluster.tree.name}/")
    (own / "kustomization.yaml").write_text(text, encoding="utf-8")
    kubectl("delete", "namespace", "rollcall", "--ignore-not-found")
    cluster.run("infra/kubernetes/apply.sh", OVERLAY=str(own))
    (claim,) = [one for one in listed("statefulsets") if one["metadata"]["name"] == "postgres"]
    template = claim["spec"]["volumeClaimTemplates"][0]["spec"]
    assert template["resources"]["requests"]["storage"] == "200Gi"
    assert "cron-connector" not in {one["metadata"]["name"] for one in listed("deployments")}
