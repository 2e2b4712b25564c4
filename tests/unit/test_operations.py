"""The commands of the guides run as they stand, and name what there is."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.guides import OPERATIONS, OVERLAYS, PLATFORMS, Shell, commands, events, shell
from tests.kustomize import build, identity
from tests.stack import ROOT

EVENTS = {
    "First deployment", "New version", "New secret", "New key", "Other store", "Own servers", "Restore to a point",
    "Node lost", "Disk full", "Database full", "S3 unavailable for a day", "A flood of rejections", "Erase a person",
    "Remove everything",
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
    """Namespace and kind/name of all that the overlays make, the claims and the pods of their stores too."""
    found = set(OPENFAAS)
    for overlay in OVERLAYS.iterdir():
        for one in build(platform_shell.tree / "infra/kubernetes/overlays" / overlay.name):
            namespace, kind, name = identity(one)
            found.add((namespace, f"{kind.lower()}/{name}"))
            if kind == "StatefulSet":
                found |= {(namespace, f"pod/{name}-0"), (namespace, f"persistentvolumeclaim/data-{name}-0")}
    return found


def named(words: list[str]) -> set[tuple[str, str]]:
    """Namespace and kind/name of the objects that a kubectl command is about."""
    options = dict(re.findall(r"--([\w-]+)=(\S*)", " ".join(words)))
    namespace = options.get("namespace", "")
    plain = [word for word in words if not word.startswith("-")]
    found = {word for word in [*plain, options.get("from", "")] if re.fullmatch(r"[a-z]+/[a-z0-9-]+", word)}
    for kind, name in pairwise(plain):
        if kind in KINDS and plain[0] != "create":
            found.add(f"{kind}/{name}")
    if plain[0] == "exec":
        found.add(f"pod/{plain[1]}")
    return {("" if one.startswith("namespace/") else namespace, one) for one in found}


def test_every_event_has_its_section() -> None:
    headings = set(re.findall(r"^## (.+)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == EVENTS == {heading for heading, _ in events()}


@pytest.mark.parametrize(("heading", "name"), events())
def test_the_commands_of_each_event_run_and_name_what_there_is(
    shells: dict[str, Shell], heading: str, name: str
) -> None:
    one = shells[name]
    script = commands(OPERATIONS, "Operations", name) + commands(OPERATIONS, heading, name)
    secrets = {path.name for path in (one.tree / "secrets").iterdir()}
    _, recorded = one.run(script)
    assert {path.name for path in (one.tree / "secrets").iterdir()} == secrets, "what was removed was made again"
    there = objects(one)
    for command in recorded:
        if command[0] == "kubectl":
            assert named(command[1:]) <= there, command


def test_the_guides_run_from_nothing_to_a_first_run(platform: str, shells: dict[str, Shell]) -> None:
    heading = {"kubernetes": "From nothing to a first run", "faasd": "Install"}[platform]
    one = shells[platform]
    (one.tree / "deployment.env").unlink()
    _, recorded = one.run(commands(ROOT / f"infra/{platform}/README.md", heading, platform))
    calls = [" ".join(command) for command in recorded]
    assert calls[-1] == "faas-cli invoke process-data"
    made = {call.split()[3] for call in calls if call.startswith("faas-cli secret create")}
    stack = yaml.safe_load((ROOT / "stack.yml").read_text(encoding="utf-8"))
    assert made >= {name for function in stack["functions"].values() for name in function["secrets"]}


def test_applying_waits_for_the_stores_and_runs_the_jobs_of_the_overlay(shells: dict[str, Shell]) -> None:
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


def test_nothing_is_pruned_that_has_data(shells: dict[str, Shell]) -> None:
    _, recorded = shells["kubernetes"].run("infra/kubernetes/apply.sh", OVERLAY="infra/kubernetes/overlays/external")
    (prune,) = [command for command in recorded if "--prune" in command]
    kinds = {word.rpartition("/")[2] for word in prune if "allowlist" in word}
    assert not kinds & {"Namespace", "Secret", "PersistentVolumeClaim"}
    assert "--selector=app.kubernetes.io/part-of=rollcall" in prune


def test_applying_without_an_overlay_changes_nothing(shells: dict[str, Shell]) -> None:
    printed, recorded = shells["kubernetes"].run("infra/kubernetes/apply.sh", check=False)
    assert "OVERLAY" in printed
    assert recorded == []


def test_a_restore_takes_its_own_dump_and_a_name_of_its_own(shells: dict[str, Shell]) -> None:
    printed, recorded = shells["kubernetes"].run("infra/kubernetes/job.sh restore DUMP=a.dump")
    (made,) = [command for command in recorded if "--from=cronjob/restore" in command]
    assert re.fullmatch(r"restore-\d{8}-\d{6}", made[5])
    (given,) = [command for command in recorded if command[1] == "set"]
    assert given[-1] == "DUMP=a.dump"
    assert "--local" in given, "the CronJob stays as it is"
    assert f"job.batch/{made[5]}" in printed


def test_a_job_that_failed_fails_the_command(shells: dict[str, Shell]) -> None:
    printed, recorded = shells["kubernetes"].run(
        "infra/kubernetes/job.sh backup", check=False, CONDITIONS="FailureTarget Failed"
    )
    assert printed.endswith("failed\nexit status 1")
    assert any("logs" in command for command in recorded)


def test_a_shell_sees_a_command_that_fails(shells: dict[str, Shell], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shells["faasd"].run(f"ls {tmp_path}/nothing")
