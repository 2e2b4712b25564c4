"""The stack starts what it names, keeps it up, keeps it to itself, and leaves nothing behind."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.exceptions
import pg8000.native
import pytest

from infra.local.runtime.processes import Identity
from tests.e2e.conftest import Toy, make_toy, wait_until
from tests.e2e.processes import family, listeners
from tests.stack import Stack, connected

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes and sockets are read from /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="about running as root")

PARTS = ("postgres", "seaweedfs", "echo", "patient")


def ports(toy: Toy) -> list[int]:
    settings = toy.env()
    urls = (settings["gateway_url"], settings["s3_endpoint"], f":{settings['postgres_port']}")
    return [int(url.rpartition(":")[2]) for url in urls]


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nothing_left(toy: Toy) -> Iterator[None]:
    """Whatever runs at the start has ended soon after the end, and its ports are closed."""
    supervisor = toy.record()["pid"]
    parts = [toy.identity(part) for part in PARTS]
    everyone = [Identity.of(pid) for pid in family(supervisor)] if sys.platform == "linux" else []
    used = ports(toy)
    assert all(answers(port) for port in used)
    yield
    wait_until(lambda: not any(one.alive() for one in [*parts, *everyone] if one.pid != supervisor), 30)
    assert not any(answers(port) for port in used)
    assert "No stack is running" in toy.cli("status", check=False).stdout


def test_ctrl_c_leaves_nothing(own_toy: Toy) -> None:
    with own_toy.up() as up, nothing_left(own_toy):
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(30) == 0


def test_down_leaves_nothing(own_toy: Toy) -> None:
    own_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    with nothing_left(own_toy):
        assert "Stopped" in own_toy.cli("down").stdout
    assert "No stack is running" in own_toy.cli("down").stdout


def test_a_stack_whose_directory_was_removed_stops_by_itself(own_toy: Toy) -> None:
    with own_toy.up() as up, nothing_left(own_toy):
        shutil.rmtree(own_toy.state)
        assert up.wait(30) == 0


def test_a_killed_up_leaves_nothing_and_the_next_one_starts(own_toy: Toy) -> None:
    with own_toy.up() as up, nothing_left(own_toy):
        up.kill()
    with own_toy.up() as up:
        up.kill()
        up.wait()
    with own_toy.up():  # the former one's processes may still be ending
        assert own_toy.request("GET", "/function/echo").status == 200


def test_a_signal_while_starting_leaves_nothing(own_toy: Toy) -> None:
    with subprocess.Popen(own_toy.command("up", "--port", "0"), stdout=subprocess.DEVNULL) as up:
        wait_until(lambda: own_toy.record().get("parts", {}).get("postgres", {}).get("pid"))
        started = own_toy.identity("postgres")
        up.terminate()
        assert up.wait(30) == 1
    assert not started.alive()


@linux
def test_what_is_killed_comes_back_where_it_was(own_toy: Toy) -> None:
    own_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    before = ports(own_toy)
    supervisor = own_toy.record()["pid"]
    for part in PARTS:
        former = own_toy.identity(part)
        former.send(signal.SIGKILL)
        wait_until(lambda part=part, former=former: _is_back(own_toy, part, former), 30)  # type: ignore[misc]
    guards = [pid for pid in family(supervisor) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(guards) == len(PARTS)
    formers = {part: own_toy.identity(part) for part in PARTS}
    for pid in guards:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(_is_back(own_toy, part, former) for part, former in formers.items()), 30)
    assert not any(former.alive() for former in formers.values())
    assert ports(own_toy) == before
    assert own_toy.sql_as_owner("select 1") == [[1]]
    assert own_toy.request("GET", "/function/echo").status == 200


def _is_back(toy: Toy, part: str, former: Identity) -> bool:
    return toy.identity(part) != former and toy.record()["parts"][part]["ready"]


def test_two_stacks_run_side_by_side_and_keep_their_data(own_toy: Toy, tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other")
    try:
        for toy in (own_toy, other):
            toy.cli("up", "--detach", "--port", "0", "--no-sample")
        assert not set(ports(own_toy)) & set(ports(other))
        own_toy.bucket.put("1.csv", b"own")
        own_toy.sql_as_owner("create table kept ()")
        assert other.keys() == []
        assert other.sql_as_owner("select to_regclass('kept')") == [[None]]
        own_toy.cli("down")
        assert other.request("GET", "/function/echo").status == 200
    finally:
        other.remove()
    again = Toy(own_toy.state, own_toy.project)  # without what the first one remembers
    again.cli("up", "--detach", "--port", "0", "--no-sample")
    assert again.keys() == ["1.csv"]
    assert again.sql_as_owner("select to_regclass('kept')") == [["kept"]]


@linux
def test_everything_listens_on_loopback_alone(stack: Stack) -> None:
    running = Toy(stack.state, stack.state).record()
    assert {address for address, _ in listeners(family(running["pid"]))} == {"0100007F"}


@linux
def test_no_secret_is_in_a_command_line_or_a_log(stack: Stack) -> None:
    values = [path.read_text().strip() for path in (stack.state / "secrets").iterdir() if path.suffix != ".json"]
    assert len(values) >= 9
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in family(Toy(stack.state, stack.state).record()["pid"])]
    logs = [path.read_text(errors="replace") for path in (stack.state / "logs").iterdir()]
    assert not [value for value in values if any(value in text for text in lines + logs)]


def test_secrets_are_their_owners_alone(stack: Stack) -> None:
    directory = stack.state / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_no_one_enters_the_database_without_the_password(stack: Stack) -> None:
    for user in ("postgres", "rollcall_process", "rollcall_query", "rollcall_backup"):
        with pytest.raises(pg8000.exceptions.DatabaseError) as refused:
            connected(stack.query_settings, postgres_user=user, postgres_password="guess")
        assert refused.value.args[0]["C"] == "28P01"


@root_only
def test_root_runs_from_a_directory_that_no_one_else_can_enter(own_toy: Toy, tmp_path: Path) -> None:
    own_toy.project.chmod(0o700)
    own_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    assert Path(f"/proc/{own_toy.identity('postgres').pid}").stat().st_uid != 0
    home = Path((own_toy.state / "postgres-home").read_text())
    assert (home / "data").exists()
    own_toy.cli("down")
    own_toy.state.rename(tmp_path / "gone")
    other = make_toy(tmp_path / "other")
    try:
        other.cli("up", "--detach", "--port", "0", "--no-sample")
        assert not home.exists()
    finally:
        other.remove()
