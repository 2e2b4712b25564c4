"""The commands of the guides run in a shell with stubs, and refer to existing objects."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.guides import OPERATIONS, OVERLAYS, PLATFORMS, Shell, commands, shell, tasks
from tests.kustomize import build, identity
from tests.stack import ROOT

TASKS = {
    "First deployment", "Upgrade", "Rotate a secret", "Rotate an S3 key", "Change the S3 store",
    "Move to your own servers", "Restore a backup", "Node lost", "Disk full", "Database full", "S3 outage",
    "Many rejected files", "Erase a person", "Uninstall",
}  # fmt: skip

OPENFAAS = {("openfaas", "service/gateway"), ("openfaas", "secret/basic-auth")} | {
    ("openfaas-fn", f"deployment/{name}")
    for name in yaml.safe_load((ROOT / "stack.yml").read_text(encoding="utf-8"))["functions"]
}
KINDS = {"persistentvolumeclaim", "pod", "secret", "namespace"}


@pytest.fixture(scope="module", params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    return {platform: shell(tmp_path_factory.mktemp(platform), platform) for platform in PLATFORMS}


def objects(platform_shell: Shell) -> set[tuple[str, str]]:
    """Return the namespace and kind/name of the objects of OpenFaaS and the overlays, with their pods and claims."""
    names = set(OPENFAAS)
    for overlay in OVERLAYS.iterdir():
        for manifest in build(platform_shell.tree / "infra/kubernetes/overlays" / overlay.name):
            namespace, kind, name = identity(manifest)
            names.add((namespace, f"{kind.lower()}/{name}"))
            if kind == "StatefulSet":
                names |= {(namespace, f"pod/{name}-0"), (namespace, f"persistentvolumeclaim/data-{name}-0")}
    return names


def objects_in(arguments: list[str]) -> set[tuple[str, str]]:
    """Return the namespace and kind/name of the objects in a kubectl command."""
    options = dict(re.findall(r"--([\w-]+)=(\S*)", " ".join(arguments)))
    namespace = options.get("namespace", "")
    operands = [argument for argument in arguments if not argument.startswith("-")]
    names = {operand for operand in [*operands, options.get("from", "")] if re.fullmatch(r"[a-z]+/[a-z0-9-]+", operand)}
    for kind, name in pairwise(operands):
        if kind in KINDS and operands[0] != "create":
            names.add(f"{kind}/{name}")
    if operands[0] == "exec":
        names.add(f"pod/{operands[1]}")
    return {("" if name.startswith("namespace/") else namespace, name) for name in names}


def test_operations_has_a_section_for_every_task() -> None:
    headings = set(re.findall(r"^## (.+)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == TASKS == {heading for heading, _ in tasks()}


@pytest.mark.parametrize(("heading", "platform"), tasks())
def test_the_commands_of_each_task_run_and_refer_to_existing_objects(
    shells: dict[str, Shell], heading: str, platform: str
) -> None:
    shell = shells[platform]
    script = commands(OPERATIONS, "Operations", platform) + commands(OPERATIONS, heading, platform)
    secrets = {path.name for path in (shell.tree / "secrets").iterdir()}
    _, recorded = shell.run(script)
    assert {path.name for path in (shell.tree / "secrets").iterdir()} == secrets, (
        "removed secrets were not created again"
    )
    existing = objects(shell)
    for command in recorded:
        if command[0] == "kubectl":
            assert objects_in(command[1:]) <= existing, command
    for command, following in pairwise(recorded):
        if command == ["sudo", "systemctl", "restart", "faasd"] and heading != "Uninstall":
            assert following[0] == "curl", "systemctl does not wait until the services respond"


def test_moving_to_your_own_servers_deploys_only_the_new_settings(shells: dict[str, Shell]) -> None:
    """The shell has exported the old deployment.env, so the commands have to unset its settings."""
    shell = shells["kubernetes"]
    guide = (ROOT / "infra/kubernetes/README.md").read_text(encoding="utf-8")
    [endpoints] = re.findall(r"`(export POSTGRES_HOST=\S+ S3_ENDPOINT=\S+)`", guide)
    settings = (shell.tree / "deployment.env").read_text(encoding="utf-8")
    lines = settings.splitlines()
    assert "S3_SECURE=false" in lines[2], "the guide replaces the third line"
    lines[0] = lines[0].replace("overlays/seaweedfs", "overlays/external")
    lines[2] = endpoints
    (shell.tree / "own.env").write_text("\n".join(lines), encoding="utf-8")
    setup, move = (commands(OPERATIONS, name, "kubernetes") for name in ("Operations", "Move to your own servers"))
    with_copy = move.replace("unset ", "cp own.env deployment.env\nunset ")
    assert with_copy != move
    output, recorded = shell.run(f'faas-cli() {{ [ "$1" != up ] || env; command faas-cli "$@"; }}\n{setup}{with_copy}')
    (shell.tree / "deployment.env").write_text(settings, encoding="utf-8")
    assert f"\n{endpoints.split()[1]}\n" in output
    assert not re.search(r"^(S3_SECURE|POSTGRES_SSLMODE)=", output, re.MULTILINE)
    calls = [" ".join(command) for command in recorded]
    stop = calls.index("kubectl --namespace=rollcall scale statefulset --all --replicas=0")
    assert calls[stop + 1].startswith("curl"), "the old servers must be stopped while the run verifies the new ones"
    assert calls[stop + 2] == "kubectl delete namespace rollcall"


def test_a_new_tag_of_postgresql_applies_to_the_server_and_its_jobs(shells: dict[str, Shell]) -> None:
    guide = OPERATIONS.read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(images:.*?)^```", guide, re.MULTILINE | re.DOTALL)
    [name] = [image["name"] for image in yaml.safe_load(block)["images"]]
    text = yaml.safe_dump_all(build(shells["kubernetes"].tree / "infra/kubernetes/overlays/seaweedfs"))
    images = re.findall(r"image: (.*postgres.*):", text)
    assert images == [name] * 4


def test_the_installation_creates_every_secret_and_ends_with_a_first_run(
    platform: str, shells: dict[str, Shell]
) -> None:
    shell = shells[platform]
    (shell.tree / "deployment.env").unlink()
    _, recorded = shell.run(commands(ROOT / f"infra/{platform}/README.md", "Install", platform))
    calls = [" ".join(command) for command in recorded]
    assert calls[-1] == "faas-cli invoke process-data"
    created = {call.split()[3] for call in calls if call.startswith("faas-cli secret create")}
    stack = yaml.safe_load((ROOT / "stack.yml").read_text(encoding="utf-8"))
    assert created >= {name for function in stack["functions"].values() for name in function["secrets"]}


def test_applying_waits_for_the_backends_and_runs_the_jobs_of_the_overlay(shells: dict[str, Shell]) -> None:
    for overlay, expected in {
        "seaweedfs": ["postgres", "seaweedfs", "schema", "buckets"],
        "minio": ["postgres", "minio", "schema", "buckets"],
        "external": [],
    }.items():
        _, recorded = shells["kubernetes"].run(
            "infra/kubernetes/apply.sh", OVERLAY=f"infra/kubernetes/overlays/{overlay}"
        )
        text = "\n".join(" ".join(command) for command in recorded)
        assert re.findall(r"rollout status statefulset.apps/(\w+)|--from=cronjob/(\w+)", text) == [
            (name, "") if name not in ("schema", "buckets") else ("", name) for name in expected
        ]


def test_nothing_that_holds_data_is_pruned(shells: dict[str, Shell]) -> None:
    _, recorded = shells["kubernetes"].run("infra/kubernetes/apply.sh", OVERLAY="infra/kubernetes/overlays/external")
    (prune,) = [command for command in recorded if "--prune" in command]
    kinds = {argument.rpartition("/")[2] for argument in prune if "allowlist" in argument}
    assert kinds == {
        *("ConfigMap", "CronJob", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet")
    }
    assert "--selector=app.kubernetes.io/part-of=rollcall" in prune


def test_applying_without_an_overlay_changes_nothing(shells: dict[str, Shell]) -> None:
    output, recorded = shells["kubernetes"].run("infra/kubernetes/apply.sh", check=False)
    assert "OVERLAY" in output
    assert recorded == []


def test_a_restore_uses_the_given_dump_and_a_job_name_with_the_time(shells: dict[str, Shell]) -> None:
    output, recorded = shells["kubernetes"].run("infra/kubernetes/job.sh restore DUMP=a.dump")
    (create_command,) = [command for command in recorded if "--from=cronjob/restore" in command]
    assert re.fullmatch(r"restore-\d{8}-\d{6}", create_command[5])
    (set_command,) = [command for command in recorded if command[1] == "set"]
    assert set_command[-1] == "DUMP=a.dump"
    assert "--local" in set_command, "the CronJob would be changed"
    assert f"job.batch/{create_command[5]}" in output


def test_a_failed_job_fails_the_command(shells: dict[str, Shell]) -> None:
    output, recorded = shells["kubernetes"].run(
        "infra/kubernetes/job.sh backup", check=False, CONDITIONS="FailureTarget Failed"
    )
    assert output.endswith("failed\nexit status 1")
    assert any("logs" in command for command in recorded)


def test_a_failed_command_fails_the_script(shells: dict[str, Shell], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shells["faasd"].run(f"ls {tmp_path}/nothing")
