"""Other users of the machine can use the gateway and the functions of a local stack, but not its servers or files."""

import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.local.config.accounts import PASSWORD_SECRETS
from infra.local.runtime.state import State
from tests.e2e.processes import command_line, listening_addresses, process_tree
from tests.port_probe import connection, speaks_grpc, unverified_tls
from tests.stack import Stack, connected, running

MARKER = b"secret content"
REQUESTS = (
    ("GET", "/"), ("GET", "/src/"), ("GET", "/src/secret.csv"), ("GET", "/buckets/"), ("GET", "/buckets/src/"),
    ("GET", "/buckets/src/secret.csv"), ("GET", "/etc/"), ("GET", "/status"), ("GET", "/dir/status"),
    ("GET", "/dir/assign"), ("GET", "/dir/assign?collection=src"), ("GET", "/dir/lookup?volumeId=1"),
    ("GET", "/cluster/status"), ("GET", "/vol/status"), ("GET", "/metrics"), ("GET", "/ui/index.html"),
    ("POST", "/submit"), ("POST", "/buckets/src/planted.csv"), ("PUT", "/buckets/src/planted.csv"),
    ("PUT", "/src/planted.csv"), ("POST", "/1,0100000000"), ("DELETE", "/buckets/src/secret.csv"),
    ("DELETE", "/src/secret.csv"), ("POST", "/?Action=ListUsers"),
)  # fmt: skip

PROBE = """
import json, os, pwd, socket, sys
user, paths, pids = json.load(sys.stdin)
entry = pwd.getpwnam(user)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
def works(action):
    try:
        action()
    except OSError:
        return False
    return True
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
accessible = []
for path in paths:
    if works(lambda: os.listdir(path)) or works(lambda: open(path, "rb").close()) or works(lambda: connect(path)):
        accessible.append(path)
    elif works(lambda: open(path, "r+b").close()) or works(lambda: open(path + "/planted", "wb").close()):
        accessible.append(path)
environments = [pid for pid in pids if works(lambda: open(f"/proc/{pid}/environ").close())]
commands = []
for pid in pids:
    works(lambda: commands.append(open(f"/proc/{pid}/cmdline").read()))
print(json.dumps([accessible, environments, commands]))
"""
"""A script that root runs. It changes its user after its imports: the new user may have no access to Python.

It prints the paths and environments that the new user can access, and the command lines of the processes that have
not ended.
"""

linux_only = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="processes and sockets are read from /proc")


@pytest.fixture(scope="module")
def exposed() -> Iterator[Stack]:
    """A stack that was started with umask 0 in a state directory that was accessible to everyone."""
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
    """Return the pids of the supervisor, its guards and all processes they started."""
    return process_tree(State(stack.state).read_state_file()["pid"])


def private_ports(stack: Stack) -> set[int]:
    """Return the stack's ports, except those of the gateway and the functions: with auth=none, anyone may call them."""
    host_pids = [pid for pid in pids(stack) if b"host.py" in command_line(pid)]
    functions = {port for _, port in listening_addresses(host_pids)}
    all_ports = {port for _, port in listening_addresses(pids(stack))}
    accessible = functions | {urlsplit(stack.url).port}
    assert accessible < all_ports
    return all_ports - accessible


@linux_only
def test_anonymous_http_requests_to_private_ports_get_only_a_health_check(exposed: Stack) -> None:
    ports = private_ports(exposed)
    s3_port = urlsplit("//" + exposed.settings["s3_endpoint"]).port or 0
    assert {s3_port, int(exposed.settings["postgres_port"])} < ports
    assert len(ports) == 11  # ten of SeaweedFS, one of PostgreSQL
    responses: Counter[int] = Counter()
    for port in ports:
        for context in (None, unverified_tls()):
            for method, path in REQUESTS:
                with suppress(OSError, HTTPException), connection(port, context) as stream:
                    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1\r\n\r\nx"
                    stream.sendall(request.encode())
                    with closing(HTTPResponse(stream, method=method)) as response:
                        response.begin()
                        responses[port] += 1
                        is_health_check = (port, path) == (s3_port, "/status")
                        assert response.status >= 400 or is_health_check, (port, context, method, path)
                        assert MARKER not in response.read()
    assert responses[s3_port] >= len(REQUESTS)  # every request without TLS gets a response
    bucket = exposed.bucket
    keys = {item.object_name for item in bucket.client.list_objects(bucket_name=bucket.source, recursive=True)}
    assert keys == {"secret.csv", "1.csv"}


@linux_only
def test_no_private_port_accepts_anonymous_grpc(exposed: Stack) -> None:
    for port in private_ports(exposed):
        assert not speaks_grpc(port), port


def test_every_login_to_postgresql_requires_a_password(exposed: Stack) -> None:
    password = (exposed.state / "secrets" / PASSWORD_SECRETS["postgres"]).read_text()
    with connected(exposed.settings, postgres_user="postgres", postgres_password=password) as connection:
        assert connection.run("select distinct auth_method from pg_hba_file_rules") == [["scram-sha-256"]]
        roles = "select rolname from pg_authid where rolcanlogin"
        assert connection.run(f"{roles} and (rolpassword is null or rolpassword not like 'SCRAM-SHA-256$%')") == []
        assert connection.run("show unix_socket_directories") == [[""]]


def test_only_the_owner_can_access_the_state_directory_and_its_secrets(exposed: Stack) -> None:
    assert stat.S_IMODE(exposed.state.stat().st_mode) == 0o700
    for path in (exposed.state / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_cannot_access_files_sockets_secrets_or_environments(exposed: Stack) -> None:
    home = Path((exposed.state / "postgres-home").read_text())
    server_uid = home.joinpath("data").stat().st_uid  # of the user postgres, or of nobody if there is no postgres
    user = next(name for name in ("nobody", "daemon") if pwd.getpwnam(name).pw_uid != server_uid)
    paths = [exposed.state, *exposed.state.rglob("*"), home, *home.rglob("*")]
    for port in private_ports(exposed):
        paths += Path("/tmp").glob(f"seaweedfs-*-{port}.sock")
    assert len([path for path in paths if path.is_socket()]) > 5
    assert {exposed.state / "secrets/operator-s3-secret-key", home / "data/PG_VERSION"} < set(paths)
    probe_input = json.dumps([user, [str(path) for path in paths], pids(exposed)])
    result = subprocess.run([sys.executable, "-c", PROBE], input=probe_input, capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
    accessible, environments, commands = json.loads(result.stdout)
    assert accessible == []
    assert environments == []
    secrets = [path.read_text().strip() for path in (exposed.state / "secrets").iterdir()]
    assert len(secrets) > 8
    assert "postgres" in "".join(commands)
    assert not [secret for secret in secrets if any(secret in command for command in commands)]


def test_a_directory_with_other_files_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").touch()
    result = Stack(tmp_path).cli("up", "--detach", "--port", "0", "--no-sample", check=False)
    assert result.returncode == 1
    assert f"{tmp_path} contains other files" in result.stderr
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
