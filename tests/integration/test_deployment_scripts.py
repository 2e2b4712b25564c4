"""What the manifests of infra/kubernetes tell the stores to run, run as it stands on real ones."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minio.error
import pg8000.native
import pytest
import yaml
from minio import Minio

from infra.local.credentials import Credentials
from infra.local.ports import LOOPBACK, free_ports
from infra.local.seaweedfs import s3_client, write_identities
from tests.postgres import client_environment
from tests.stack import ROOT, Stack

PASSWORDS = ROOT / "infra/postgres/passwords.sh"
KUBERNETES = ROOT / "infra/kubernetes"

READER, READERS_SECRET = "rollcall_query", "rollcall-query-postgres-password"


@pytest.fixture(scope="module")
def superuser(stack: Stack) -> dict[str, str]:
    password = (stack.state / "secrets/operator-postgres-password").read_text(encoding="utf-8")
    return client_environment(stack.process_settings) | {"PGUSER": "postgres", "PGPASSWORD": password}


@pytest.fixture(scope="module")
def owner(stack: Stack) -> dict[str, str]:
    return client_environment(stack.process_settings)


def container(file: str, kind: str, name: str) -> dict[str, Any]:
    """The only container of an object in a manifest."""
    for one in yaml.safe_load_all((KUBERNETES / file).read_text(encoding="utf-8")):
        if (one["kind"], one["metadata"]["name"]) == (kind, name):
            spec = one["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else one["spec"]
            (found,) = spec["template"]["spec"]["containers"]
            return dict(found)
    raise LookupError(f"{file}: no {kind} {name}")


def script(container: dict[str, Any], **places: Path) -> list[str]:
    """Its command, with directories of the test's in the place of the container's."""
    words = [*container["command"], *container["args"]]
    for name, path in places.items():
        words[-1] = words[-1].replace(f"/{name}", str(path))
    return words


def run(command: list[str], environment: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, check=check, capture_output=True, text=True, timeout=120)


def can_log_in(client: dict[str, str], password: str) -> bool:
    try:
        pg8000.native.Connection(
            READER,
            password=password,
            host=client["PGHOST"],
            port=int(client["PGPORT"]),
            database=client["PGDATABASE"],
        ).close()
    except pg8000.native.DatabaseError:
        return False
    return True


@pytest.mark.parametrize(
    "command", [[str(PASSWORDS)], ["bash", "-ec", '. "$0"', str(PASSWORDS)]], ids=["run", "sourced"]
)
def test_roles_and_passwords_may_be_set_again(
    stack: Stack, superuser: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    there = stack.state / "secrets"
    old, new = (there / READERS_SECRET).read_text(encoding="utf-8"), 'it\'s \\ "new" : ü'
    (tmp_path / "rollcall-process-postgres-password").write_text(stack.process_settings["postgres_password"])
    (tmp_path / READERS_SECRET).write_text(new, encoding="utf-8")
    run(["psql", "--set", "ON_ERROR_STOP=1", "--file", str(ROOT / "infra/postgres/roles.sql")], superuser)
    try:
        for _ in range(2):
            answer = run(command, superuser | {"SECRETS": str(tmp_path)})
            assert answer.stdout + answer.stderr == ""
        assert can_log_in(superuser, new)
        assert not can_log_in(superuser, old)
        (tmp_path / READERS_SECRET).write_text("")
        assert run(command, superuser | {"SECRETS": str(tmp_path)}, check=False).returncode
        assert can_log_in(superuser, new)
    finally:
        run(command, superuser | {"SECRETS": str(there)})
    assert can_log_in(superuser, old)


def test_a_backup_comes_back(roll: Stack, owner: dict[str, str], tmp_path: Path) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.process()
    was = roll.sql("select * from users order by id")
    environment = owner | {"KEEP_DAYS": "14"}
    old = tmp_path / "rollcall-20000101T000000Z.dump"
    old.touch()
    os.utime(old, (0, 0))
    run(script(container("postgres/backup.yaml", "CronJob", "backup"), backups=tmp_path), environment)
    (dump,) = tmp_path.iterdir()
    assert re.fullmatch(r"rollcall-\d{8}T\d{6}Z\.dump", dump.name)

    restore = script(container("postgres/backup.yaml", "CronJob", "restore"), backups=tmp_path)
    (tmp_path / "half").write_bytes(dump.read_bytes()[:-2000])
    roll.sql("delete from users where user_id = '1'")
    roll.sql("create table of_a_later_version (id int)")
    assert run(restore, environment | {"DUMP": "half"}, check=False).returncode
    assert roll.sql("select user_id from users") == [["2"]], "half a dump changes nothing"

    run(restore, environment)
    assert roll.sql("select * from users order by id") == was
    assert roll.sql("select to_regclass('of_a_later_version')::text") == [[None]]
    assert roll.request("GET", "/function/query-data?count=1&limit=1").json()["count"] == 2, (
        "and query-data may read it"
    )
    assert roll.process()["unchanged"] == 2
    roll.bucket.put_person("3")
    assert roll.process()["added"] == 1


@contextmanager
def weed(directory: Path, identities: Path) -> Iterator[str]:
    """SeaweedFS as the manifest has it, but on free ports of loopback alone; gives S3's address."""
    names = ("s3", "master", "volume", "filer")
    ports = free_ports(2 * len(names))
    own = [f"-{name}.port{kind}={ports.pop()}" for name in names for kind in (".grpc", "")]
    server = container("seaweedfs/server.yaml", "StatefulSet", "seaweedfs")
    given = [
        word.replace("=/data", f"={directory}").replace("=/run/secrets/seaweedfs.json", f"={identities}")
        for word in server["args"]
    ]
    program = Path(sysconfig.get_path("scripts")) / "weed"
    command = [str(program), *given, f"-s3.ip.bind={LOOPBACK}", *own]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"{LOOPBACK}:{own[1].rpartition('=')[2]}"
        finally:
            process.send_signal(signal.SIGKILL)  # kindly, it takes 20 seconds
            process.wait()
            for word in own:
                for socket in Path("/tmp").glob(f"seaweedfs-*-{word.rpartition('=')[2]}.sock"):
                    socket.unlink()


def refused(client: Minio, bucket: str, key: str) -> bool:
    try:
        client.get_object(bucket_name=bucket, object_name=key).close()
    except minio.error.S3Error as error:
        return error.code == "AccessDenied"
    return False


@pytest.mark.skipif(not shutil.which("curl"), reason="the job calls curl, which is not here")
def test_seaweedfs_has_its_buckets_and_keeps_them_apart(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "data").mkdir()
    credentials = Credentials(tmp_path / "secrets")
    identities = write_identities(credentials)
    job = container("seaweedfs/buckets.yaml", "Job", "buckets")
    command = script(job, **{"run/secrets": tmp_path / "secrets"})
    with weed(tmp_path / "data", identities) as endpoint:
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
        operator.fput_object(bucket_name="src", object_name="1.csv", file_path=str(PASSWORDS))
        process.fput_object(bucket_name="res", object_name="output.csv", file_path=str(PASSWORDS))
        query.get_object(bucket_name="src", object_name="1.csv").close()
        assert refused(query, "res", "output.csv")
        with pytest.raises(minio.error.S3Error, match="AccessDenied"):
            process.fput_object(bucket_name="src", object_name="1.csv", file_path=str(PASSWORDS))
