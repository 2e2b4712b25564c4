"""The commands of the jobs and of SeaweedFS in infra/kubernetes and infra/faasd, run with other paths and ports."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minio.error
import pytest
import urllib3
import yaml
from minio import Minio

from infra.local.config.accounts import write_identities
from infra.local.config.credentials import Credentials
from infra.local.runtime.ports import LOOPBACK, free_ports
from infra.local.servers.seaweedfs import s3_client
from tests.port_probe import connection, speaks_grpc
from tests.postgres import MIGRATION_NAMES, MIGRATIONS, SETUP, client_environment, run
from tests.stack import HANG_TIMEOUT, ROOT, Stack

KUBERNETES = ROOT / "infra/kubernetes"


def container(file: str, kind: str, name: str) -> dict[str, Any]:
    """Return the only container of an object in a manifest."""
    for item in yaml.safe_load_all((KUBERNETES / file).read_text(encoding="utf-8")):
        if (item["kind"], item["metadata"]["name"]) == (kind, name):
            spec = item["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else item["spec"]
            [only] = spec["template"]["spec"]["containers"]
            return dict(only)
    raise LookupError(f"{file}: no {kind} {name}")


def command_of(container: dict[str, Any], **directories: Path) -> list[str]:
    """Return the container's command.

    Each keyword argument `name=path` replaces the directory /name in the script with `path`.
    """
    command = [*container["command"], *container["args"]]
    for name, path in directories.items():
        command[-1] = command[-1].replace(f"/{name}", str(path))
    return command


def environment_of(container: dict[str, Any], stack: Stack) -> dict[str, str]:
    """Return the environment that the manifest gives a container, with this stack's server and secrets.

    The password ends with a newline, as in a file that an editor wrote.
    """
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    (secret,) = (
        variable["valueFrom"]["secretKeyRef"]["key"] for variable in container["env"] if "valueFrom" in variable
    )
    password = (stack.state / "secrets" / secret).read_text(encoding="utf-8").strip() + "\n"
    directories = {"MIGRATIONS": str(MIGRATIONS), "SECRETS": str(stack.state / "secrets")}
    paths = {name: value for name, value in directories.items() if name in variables}
    settings = dict(stack.settings) | {"postgres_user": str(variables["PGUSER"]), "postgres_password": password}
    options = {name: str(variables[name]) for name in ("KEEP_DAYS", "DUMP") if name in variables}
    return client_environment(settings) | options | paths


def test_the_schema_job_upgrades_an_older_schema(rollcall: Stack) -> None:
    rollcall.sql("drop table erased")
    rollcall.sql("delete from outputs where object = 'erased.csv'")
    rollcall.sql("delete from migrations where name = '0006_erased'")
    job = container("postgres/schema.yaml", "CronJob", "schema")
    result = run(command_of(job, rollcall=SETUP.parent), environment_of(job, rollcall))
    assert "applied 0006_erased" in result.stdout
    assert "password set: rollcall_backup" in result.stdout
    assert rollcall.process()["status"] == "done"


def test_the_config_map_contains_every_migration() -> None:
    kustomization = yaml.safe_load((ROOT / "infra/postgres/kustomization.yaml").read_text(encoding="utf-8"))
    files = {generator["name"]: generator["files"] for generator in kustomization["configMapGenerator"]}
    assert files["postgres-migrations"] == [f"migrations/{name}.sql" for name in MIGRATION_NAMES]


def test_the_backup_job_deletes_old_dumps_and_a_new_one_can_be_restored(rollcall: Stack, tmp_path: Path) -> None:
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()
    before = rollcall.sql("select * from users order by id")
    older, old = (tmp_path / f"rollcall-2000010{day}T000000Z.dump" for day in (1, 2))
    elsewhere = tmp_path / "from-elsewhere.dump"
    for path in (older, old, elsewhere):
        path.touch()
        os.utime(path, (0, 0))
    backup, restore_job = (container("postgres/backup.yaml", "CronJob", name) for name in ("backup", "restore"))
    failing = environment_of(backup, rollcall) | {"PGDATABASE": "none"}  # pg_dump fails, as it would on a full volume
    assert run(command_of(backup, backups=tmp_path), failing, check=False).returncode
    assert set(tmp_path.iterdir()) == {old, elsewhere}, "a failed backup must still delete all old dumps but the latest"
    run(command_of(backup, backups=tmp_path), environment_of(backup, rollcall))
    # the latest old dump is kept: the new one may come from a database that has lost its data
    (dump,) = set(tmp_path.iterdir()) - {old, elsewhere}
    assert re.fullmatch(r"rollcall-\d{8}T\d{6}Z\.dump", dump.name)

    restore = command_of(restore_job, backups=tmp_path, rollcall=SETUP.parent)
    environment = environment_of(restore_job, rollcall)
    (tmp_path / "truncated").write_bytes(dump.read_bytes()[:-2000])
    rollcall.sql("delete from users where user_id = '1'")
    rollcall.sql("create table of_a_later_version (id int)")
    assert run(restore, environment | {"DUMP": "truncated"}, check=False).returncode
    assert rollcall.sql("select user_id from users") == [["2"]], "a truncated dump must change nothing"

    run(restore, environment)
    assert rollcall.sql("select * from users order by id") == before
    assert rollcall.sql("select to_regclass('of_a_later_version')::text") == [[None]]
    assert rollcall.sql("select distinct tableowner from pg_tables where schemaname = 'public'") == [["rollcall_owner"]]
    page = rollcall.request("GET", "/function/query-data?count=1&limit=1").json()
    assert page["count"] == 2, "query-data must be able to read the restored tables"
    assert rollcall.process()["unchanged"] == 2
    rollcall.bucket.put_person("3")
    assert rollcall.process()["added"] == 1


def seaweedfs_of_kubernetes() -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment of SeaweedFS on Kubernetes."""
    server = container("seaweedfs/server.yaml", "StatefulSet", "seaweedfs")
    return server["args"], {variable["name"]: variable["value"] for variable in server["env"]}


def seaweedfs_of_faasd() -> tuple[list[str], dict[str, str]]:
    compose = ROOT / "infra/faasd/docker-compose.rollcall.yaml"
    service = yaml.safe_load(compose.read_text(encoding="utf-8"))["services"]["s3"]
    return service["command"][1:], dict(line.split("=", 1) for line in service["environment"])


@contextmanager
def weed(
    directory: Path, identities: Path, deployment: tuple[list[str], dict[str, str]]
) -> Iterator[tuple[str, dict[str, int]]]:
    """Run SeaweedFS as in a deployment, but on free local ports. Yield the address of S3, and all ports by option."""
    arguments, environment = deployment
    names = [f"{server}.port{kind}" for server in ("s3", "master", "volume", "filer") for kind in (".grpc", "")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = [
        argument.replace("=/data", f"={directory}").replace("=/run/secrets/seaweedfs.json", f"={identities}")
        for argument in arguments
    ]
    program = Path(sysconfig.get_path("scripts")) / "weed"
    command = [str(program), *options, f"-s3.ip.bind={LOOPBACK}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with subprocess.Popen(
        command, cwd=directory, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield f"{LOOPBACK}:{ports['s3.port']}", ports
        finally:
            process.send_signal(signal.SIGKILL)  # stopping by SIGTERM takes 20 seconds
            process.wait(HANG_TIMEOUT)
            for port in ports.values():
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink()


def is_denied(client: Minio, bucket: str, key: str) -> bool:
    try:
        client.get_object(bucket_name=bucket, object_name=key).close()
    except minio.error.S3Error as error:
        return error.code == "AccessDenied"
    return False


@pytest.mark.skipif(not shutil.which("curl"), reason="the job requires curl")
def test_the_buckets_job_creates_the_buckets_and_seaweedfs_enforces_the_policies(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "data").mkdir()
    credentials = Credentials(tmp_path / "secrets")
    identities = write_identities(credentials)
    job = container("seaweedfs/buckets.yaml", "CronJob", "buckets")
    command = command_of(job, **{"run/secrets": tmp_path / "secrets"})
    with weed(tmp_path / "data", identities, seaweedfs_of_kubernetes()) as (endpoint, _):
        environment = {"PATH": os.environ["PATH"], "S3": f"http://{endpoint}"}
        for _ in range(2):
            run(command, environment)

        operator, process, query = (
            s3_client(
                endpoint,
                {
                    "accessKey": credentials.get(f"{identity}-s3-access-key"),
                    "secretKey": credentials.get(f"{identity}-s3-secret-key"),
                },
            )
            for identity in ("operator", "rollcall-process", "rollcall-query")
        )
        assert {bucket.name for bucket in operator.list_buckets()} == {"src", "res"}
        operator.fput_object(bucket_name="src", object_name="1.png", file_path=__file__)
        process.fput_object(bucket_name="res", object_name="output.csv", file_path=__file__)
        query.get_object(bucket_name="src", object_name="1.png").close()
        assert is_denied(query, "res", "output.csv")
        with pytest.raises(minio.error.S3Error, match="AccessDenied"):
            process.fput_object(bucket_name="src", object_name="1.csv", file_path=__file__)


@pytest.mark.parametrize("deployment", [seaweedfs_of_kubernetes, seaweedfs_of_faasd])
def test_the_grpc_port_of_s3_accepts_no_requests(
    tmp_path: Path, deployment: Callable[[], tuple[list[str], dict[str, str]]]
) -> None:
    """By default anyone can add identities through the gRPC port of S3. In the deployments its TLS handshakes fail."""
    credentials = Credentials(tmp_path)
    with weed(tmp_path, write_identities(credentials), deployment()) as (endpoint, ports):
        retries = urllib3.Retry(total=60, backoff_factor=0.1, backoff_max=1, status_forcelist=[503])
        url = f"http://{endpoint}/healthz"
        assert urllib3.request("GET", url, retries=retries, timeout=HANG_TIMEOUT).status == 200
        assert speaks_grpc(ports["master.port.grpc"])  # this port listens on localhost only, and has no TLS
        with connection(ports["s3.port.grpc"], None):  # the port accepts TCP connections
            assert not speaks_grpc(ports["s3.port.grpc"])
