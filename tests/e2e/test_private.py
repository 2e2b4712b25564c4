"""Another user of the machine gets nothing of a local stack but what its gateway serves."""

import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.local.config.accounts import PASSWORDS
from infra.local.runtime.state import State
from tests.e2e.processes import family, listeners
from tests.stack import Stack, connected, running
from tests.stranger import connection, speaks_grpc, stranger

MARKER = b"only for those who may"
REQUESTS = (
    ("GET", "/"), ("GET", "/src/"), ("GET", "/src/secret.csv"), ("GET", "/buckets/"), ("GET", "/buckets/src/"),
    ("GET", "/buckets/src/secret.csv"), ("GET", "/etc/"), ("GET", "/status"), ("GET", "/dir/status"),
    ("GET", "/dir/assign"), ("GET", "/dir/assign?collection=src"), ("GET", "/dir/lookup?volumeId=1"),
    ("GET", "/cluster/status"), ("GET", "/vol/status"), ("GET", "/metrics"), ("GET", "/ui/index.html"),
    ("POST", "/submit"), ("POST", "/buckets/src/planted.csv"), ("PUT", "/buckets/src/planted.csv"),
    ("PUT", "/src/planted.csv"), ("POST", "/1,0100000000"), ("DELETE", "/buckets/src/secret.csv"),
    ("DELETE", "/src/secret.csv"), ("POST", "/?Action=ListUsers"),
)  # fmt: skip

LOOK = """
import json, os, pwd, socket, sys
user, paths, pids = json.load(sys.stdin)
entry = pwd.getpwnam(user)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
def works(act):
    try:
        act()
    except OSError:
        return False
    return True
def connect(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
open_to_all = []
for path in paths:
    if works(lambda: os.listdir(path)) or works(lambda: open(path, "rb").close()) or works(lambda: connect(path)):
        open_to_all.append(path)
    elif works(lambda: open(path, "r+b").close()) or works(lambda: open(path + "/planted", "wb").close()):
        open_to_all.append(path)
environments = [pid for pid in pids if works(lambda: open(f"/proc/{pid}/environ").close())]
commands = [open(f"/proc/{pid}/cmdline").read() for pid in pids]
print(json.dumps([open_to_all, environments, commands]))
"""
"""Run as root: it becomes the user after everything is imported, so that the user needs no Python."""

linux = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the sockets of processes are read from /proc")


@pytest.fixture(scope="module")
def exposed() -> Iterator[Stack]:
    """A stack whose state directory was open to everyone, in a place that everyone can enter, without any umask."""
    with tempfile.TemporaryDirectory(prefix="rollcall-test-") as directory:
        state = Path(directory) / "state"
        state.mkdir()
        for path in (Path(directory), state):
            path.chmod(0o777)
        before = os.umask(0)
        try:
            with running(state) as stack:
                stack.bucket.put("secret.csv", MARKER)
                stack.bucket.put_person("1")
                stack.process()
                yield stack
        finally:
            os.umask(before)


def pids(stack: Stack) -> list[int]:
    """The supervisor, its guards, and all that they started."""
    return family(State(stack.state).read_state_file()["pid"])


def guarded(stack: Stack) -> set[int]:
    """Every port that the stack listens on, but those that serve what the gateway does and ask for its token."""
    words = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids(stack)]
    functions = {int(one[one.index("--port") + 1]) for one in words if any(word.endswith("host.py") for word in one)}
    every = {port for _, port in listeners(pids(stack))}
    open_to_all = functions | {urlsplit(stack.url).port}
    assert open_to_all < every
    return every - open_to_all


@linux
def test_no_port_but_the_gateways_lets_anyone_read_or_write(exposed: Stack) -> None:
    ports = guarded(exposed)
    s3 = urlsplit("//" + exposed.settings["s3_endpoint"]).port or 0
    assert {s3, int(exposed.settings["postgres_port"])} < ports
    assert len(ports) == 11  # SeaweedFS has ten
    for port in ports:
        for context in (None, stranger()):
            for method, path in REQUESTS:
                with suppress(OSError, HTTPException), connection(port, context) as stream:
                    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1\r\n\r\nx"
                    stream.sendall(request.encode())
                    with closing(HTTPResponse(stream, method=method)) as response:
                        response.begin()
                        allowed = (port, path) == (s3, "/status")  # says that it is up
                        assert response.status >= 400 or allowed, (port, context, method, path)
                        assert MARKER not in response.read()
    bucket = exposed.bucket
    keys = {one.object_name for one in bucket.client.list_objects(bucket_name=bucket.source, recursive=True)}
    assert keys == {"secret.csv", "1.csv"}


@linux
def test_no_port_speaks_grpc_to_a_stranger(exposed: Stack) -> None:
    for port in guarded(exposed):
        assert not speaks_grpc(port), port


def test_every_login_to_postgresql_takes_a_password(exposed: Stack) -> None:
    password = (exposed.state / "secrets" / PASSWORDS["postgres"]).read_text()
    with connected(exposed.settings, postgres_user="postgres", postgres_password=password) as connection:
        assert connection.run("select distinct auth_method from pg_hba_file_rules") == [["scram-sha-256"]]
        without = "select rolname from pg_authid where rolcanlogin and rolpassword not like 'SCRAM-SHA-256$%'"
        assert connection.run(f"{without} or rolcanlogin and rolpassword is null") == []
        assert connection.run("show unix_socket_directories") == [[""]]


def test_what_the_stack_keeps_is_its_users_alone(exposed: Stack) -> None:
    assert stat.S_IMODE(exposed.state.stat().st_mode) == 0o700
    for path in (exposed.state / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_no_file_socket_secret_or_environment(exposed: Stack) -> None:
    home = Path((exposed.state / "postgres-home").read_text())
    server = home.joinpath("data").stat().st_uid  # nobody, where there is no user postgres
    user = next(name for name in ("nobody", "daemon") if pwd.getpwnam(name).pw_uid != server)
    paths = [exposed.state, *exposed.state.rglob("*"), home, *home.rglob("*")]
    for port in guarded(exposed):
        paths += Path("/tmp").glob(f"seaweedfs-*-{port}.sock")
    assert len([path for path in paths if path.is_socket()]) > 5
    assert {exposed.state / "secrets/operator-s3-secret-key", home / "data/PG_VERSION"} < set(paths)
    found = json.dumps([user, [str(path) for path in paths], pids(exposed)])
    looked = subprocess.run([sys.executable, "-c", LOOK], input=found, capture_output=True, text=True, cwd="/")
    assert looked.returncode == 0, looked.stderr
    open_to_all, environments, commands = json.loads(looked.stdout)
    assert open_to_all == []
    assert environments == []
    secrets = [path.read_text().strip() for path in (exposed.state / "secrets").iterdir()]
    assert len(secrets) > 8
    assert "postgres" in "".join(commands)
    assert not [secret for secret in secrets if any(secret in command for command in commands)]


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").touch()
    result = Stack(tmp_path).cli("up", "--detach", "--port", "0", "--no-sample", check=False)
    assert result.returncode == 1
    assert f"{tmp_path} contains other files" in result.stderr
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
