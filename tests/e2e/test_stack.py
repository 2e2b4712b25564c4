"""The stack restarts its components, protects its secrets, and leaves no processes behind."""

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
from infra.local.runtime.state import State
from tests.e2e.conftest import ProjectStack, make_toy
from tests.e2e.processes import command_line, listening_addresses, process_tree
from tests.stack import HANG_TIMEOUT, Stack, connected, remove_home

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes and sockets are read from /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="requires root")

COMPONENTS = ("postgres", "seaweedfs", "echo", "long-timeout")


def ports(toy: ProjectStack) -> list[int]:
    settings = toy.env()
    urls = (settings["gateway_url"], settings["s3_endpoint"], f":{settings['postgres_port']}")
    return [int(url.rpartition(":")[2]) for url in urls]


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def sockets(used_ports: list[int]) -> list[Path]:
    """Return SeaweedFS's Unix sockets for these ports."""
    return [path for port in used_ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]


@contextmanager
def leaves_no_processes(toy: ProjectStack) -> Iterator[None]:
    """After the block, check that the supervisor's child processes end and that the ports are closed."""
    supervisor = toy.state_file()["pid"]
    components = [toy.identity(component) for component in COMPONENTS]
    tree = [Identity.of(pid) for pid in process_tree(supervisor)] if sys.platform == "linux" else []
    used_ports = ports(toy)
    assert all(is_open(port) for port in used_ports)
    yield
    toy.wait_until(lambda: not any(process.alive() for process in [*components, *tree] if process.pid != supervisor))
    assert not any(is_open(port) for port in used_ports)
    assert "No stack is running" in toy.cli("status", check=False).stdout


def test_ctrl_c_leaves_no_processes(new_toy: ProjectStack) -> None:
    with new_toy.up() as up, leaves_no_processes(new_toy):
        os.killpg(up.pid, signal.SIGINT)
        assert up.wait(HANG_TIMEOUT) == 0


def test_down_leaves_no_processes(new_toy: ProjectStack) -> None:
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    with leaves_no_processes(new_toy):
        assert "Stopped" in new_toy.cli("down").stdout
    assert "No stack is running" in new_toy.cli("down").stdout


def test_a_stack_stops_when_its_directory_is_removed(new_toy: ProjectStack) -> None:
    with new_toy.up() as up, leaves_no_processes(new_toy):
        used_ports = ports(new_toy)
        assert sockets(used_ports)
        homes = [Path(pointer.read_text()) for pointer in new_toy.state.glob("postgres-home")]  # if root runs the stack
        while new_toy.state.exists():  # the components may still write into it
            shutil.rmtree(new_toy.state, ignore_errors=True)
        assert up.wait(HANG_TIMEOUT) == 0
    for home in homes:
        shutil.rmtree(home)
    assert not sockets(used_ports)


def test_a_stack_whose_directory_is_replaced_stops_and_leaves_the_replacement_alone(new_toy: ProjectStack) -> None:
    with new_toy.up() as up, leaves_no_processes(new_toy):
        new_toy.state.rename(new_toy.project / "removed")
        replacement = State(new_toy.state)
        replacement.create()
        replacement.write_state_file({"url": "of another stack"})
        assert up.wait(HANG_TIMEOUT) == 0
    assert replacement.read_state_file() == {"url": "of another stack"}
    remove_home(new_toy.project / "removed")


def test_killing_the_supervisor_leaves_no_processes_and_the_stack_can_start_again(new_toy: ProjectStack) -> None:
    with new_toy.up() as up, leaves_no_processes(new_toy):
        up.kill()
    with new_toy.up() as up:
        up.kill()
        up.wait(HANG_TIMEOUT)
    with new_toy.up():  # processes of the previous stack may still be ending
        assert new_toy.request("GET", "/function/echo").status == 200


def test_a_signal_during_startup_stops_postgresql(new_toy: ProjectStack) -> None:
    with subprocess.Popen(new_toy.command("up", "--port", "0"), stdout=subprocess.DEVNULL) as up:
        new_toy.wait_until(lambda: new_toy.state_file().get("components", {}).get("postgres", {}).get("pid"))
        postgres = new_toy.identity("postgres")
        up.terminate()
        assert up.wait(HANG_TIMEOUT) == 1
    assert not postgres.alive()


@linux_only
def test_killed_components_restart_on_the_same_ports(new_toy: ProjectStack) -> None:
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    before = ports(new_toy)
    supervisor = new_toy.state_file()["pid"]
    for component in COMPONENTS:
        previous = new_toy.identity(component)
        previous.send(signal.SIGKILL)
        new_toy.wait_until(lambda component=component, previous=previous: _has_restarted(new_toy, component, previous))  # type: ignore[misc]
    guards = [pid for pid in process_tree(supervisor) if b"guard.py" in command_line(pid)]
    assert len(guards) == len(COMPONENTS)
    all_previous = {component: new_toy.identity(component) for component in COMPONENTS}
    for pid in guards:
        os.kill(pid, signal.SIGKILL)
    new_toy.wait_until(
        lambda: all(_has_restarted(new_toy, component, previous) for component, previous in all_previous.items())
    )
    assert not any(previous.alive() for previous in all_previous.values())
    assert ports(new_toy) == before
    assert new_toy.sql_uncached("select 1") == [[1]]
    assert new_toy.request("GET", "/function/echo").status == 200


def _has_restarted(toy: ProjectStack, component: str, previous: Identity) -> bool:
    return toy.identity(component) != previous and toy.state_file()["components"][component]["ready"]


def test_two_stacks_are_separate_and_a_restart_keeps_the_data(new_toy: ProjectStack, tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other")
    try:
        for toy in (new_toy, other):
            toy.cli("up", "--detach", "--port", "0", "--no-sample")
        assert not set(ports(new_toy)) & set(ports(other))
        new_toy.bucket.put("1.csv", b"own")
        new_toy.sql_uncached("create table kept ()")
        assert other.keys() == []
        assert other.sql_uncached("select to_regclass('kept')") == [[None]]
        new_toy.cli("down")
        assert other.request("GET", "/function/echo").status == 200
    finally:
        other.remove()
    restarted = ProjectStack(new_toy.state, new_toy.project)  # without cached settings
    restarted.cli("up", "--detach", "--port", "0", "--no-sample")
    assert restarted.keys() == ["1.csv"]
    assert restarted.sql_uncached("select to_regclass('kept')") == [["kept"]]


@linux_only
def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    supervisor = ProjectStack(stack.state, stack.state).state_file()["pid"]
    assert {address for address, _ in listening_addresses(process_tree(supervisor))} == {"0100007F"}  # 127.0.0.1


@linux_only
def test_no_secret_is_in_a_command_line_or_a_log(stack: Stack) -> None:
    values = [path.read_text().strip() for path in (stack.state / "secrets").iterdir() if path.suffix != ".json"]
    assert len(values) >= 9
    supervisor = ProjectStack(stack.state, stack.state).state_file()["pid"]
    lines = [command_line(pid).decode() for pid in process_tree(supervisor)]
    logs = [path.read_text(errors="replace") for path in (stack.state / "logs").iterdir()]
    assert not [value for value in values if any(value in text for text in lines + logs)]


def test_only_the_owner_can_read_the_secrets(stack: Stack) -> None:
    directory = stack.state / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_logins_with_a_wrong_password_are_rejected(stack: Stack) -> None:
    for user in ("postgres", "rollcall_process", "rollcall_query", "rollcall_backup"):
        with pytest.raises(pg8000.exceptions.DatabaseError) as raised:
            connected(stack.query_settings, postgres_user=user, postgres_password="guess")
        assert raised.value.args[0]["C"] == "28P01"  # invalid password


@root_only
def test_root_can_run_a_project_in_a_private_directory(new_toy: ProjectStack) -> None:
    new_toy.project.chmod(0o700)
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    assert Path(f"/proc/{new_toy.identity('postgres').pid}").stat().st_uid != 0
    home = Path((new_toy.state / "postgres-home").read_text())
    assert (home / "data").exists()
    new_toy.cli("down")


@root_only
def test_a_database_is_kept_while_its_state_directory_is_absent(new_toy: ProjectStack, tmp_path: Path) -> None:
    """The directory may be on a disk that is not mounted when another stack starts."""
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    new_toy.sql_uncached("create table kept ()")
    new_toy.cli("down")
    new_toy.state.rename(tmp_path / "absent")
    other = make_toy(tmp_path / "other")
    try:
        other.cli("up", "--detach", "--port", "0", "--no-sample")
    finally:
        other.remove()
        (tmp_path / "absent").rename(new_toy.state)
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    assert new_toy.sql_uncached("select to_regclass('kept')") == [["kept"]]


@root_only
def test_the_database_of_a_deleted_state_directory_is_removed_once_a_stack_uses_its_path(new_toy: ProjectStack) -> None:
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    home = Path((new_toy.state / "postgres-home").read_text())
    new_toy.cli("down")
    shutil.rmtree(new_toy.state)
    new_toy.cli("up", "--detach", "--port", "0", "--no-sample")
    assert not home.exists()
