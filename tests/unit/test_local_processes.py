"""The processes, state file, ports, logs and secrets of the local stack."""

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import pytest

from infra.local.cli import main
from infra.local.config.credentials import Credentials, resolve_files
from infra.local.errors import LocalError
from infra.local.runtime import host, processes
from infra.local.runtime.functions import Replica
from infra.local.runtime.logs import read_lines
from infra.local.runtime.ports import free_ports, reserve
from infra.local.runtime.processes import Command, Identity, Process, stop_all
from infra.local.runtime.state import State
from infra.local.servers import seaweedfs
from infra.local.supervisor import Supervisor, _raise_on_signals, ignoring_os_errors
from tests.stack import ROOT, read_env


@dataclass
class Script:
    """A component that runs Python code. It is ready once the code has printed `ready`."""

    code: str
    directory: Path
    stop_timeout: float = 5

    def prepare(self) -> None:
        pass

    def command(self) -> Command:
        (self.directory / "log").write_text("")  # an earlier start may have printed `ready`
        command = [sys.executable, "-u", "-c", self.code]
        return Command(command, dict(os.environ), self.directory, stop_timeout=self.stop_timeout)

    def is_ready(self) -> bool:
        return "ready" in (self.directory / "log").read_text()


def process(component: Script) -> Process:
    return Process("script", component, component.directory / "log", print, lambda: None)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
    stubborn = process(Script(code, tmp_path, stop_timeout=0.3))
    stubborn.start()
    stubborn.wait_ready()
    assert stubborn.identity
    started_at = time.monotonic()
    stubborn.stop()
    assert time.monotonic() - started_at < 5
    assert not stubborn.identity.alive()


def test_child_processes_end_when_their_parent_is_stopped(tmp_path: Path) -> None:
    child = "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    parent = process(Script(f"{child}; print('child', c.pid); print('ready'); c.wait()", tmp_path))
    parent.start()
    parent.wait_ready()
    texts = [line.text for line in read_lines(tmp_path / "log")]
    child_process = Identity.of(int(texts[0].split()[1]))
    parent.stop()
    deadline = time.monotonic() + 60
    while child_process.alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_does_not_start_is_an_error_with_its_last_output(tmp_path: Path) -> None:
    failing = process(Script("print('no luck'); raise SystemExit(3)", tmp_path))
    failing.start()
    with pytest.raises(LocalError, match="script failed to start: exited with status 3") as raised:
        failing.wait_ready()
    assert "no luck" in str(raised.value)
    failing.stop()


def test_wait_ready_does_not_hang_after_an_unexpected_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script("print('ready')", tmp_path)
    monkeypatch.setattr(script, "command", lambda: json.loads(""))
    failing = process(script)
    failing.start()
    with pytest.raises(LocalError, match="script failed to start: Expecting value"):
        failing.wait_ready()
    failing.stop()


def test_a_command_ends_if_its_supervisor_dies_before_reading_the_pid(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    options = ["--stop-signal", "SIGTERM", "--stop-timeout", "5", "--log", str(tmp_path / "log")]
    command = [sys.executable, "-I", "-S", str(processes.GUARD), *options, "--", "sleep", "600"]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[writer])
    os.close(writer)
    assert guard.stdin and guard.stdout
    guard.stdout.close()
    guard.stdin.close()
    assert guard.wait(60) == 128 + signal.SIGTERM
    assert select.select([reader], [], [], 60)[0], "the command still runs: it has inherited the other end of the pipe"
    os.close(reader)


def test_a_killed_process_is_restarted_even_if_the_disk_is_full(tmp_path: Path) -> None:
    def fail(*_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    script = Script("print('ready', flush=True); import time; time.sleep(600)", tmp_path)
    supervised = Process("script", script, tmp_path / "log", ignoring_os_errors(fail), ignoring_os_errors(fail))
    supervised.start()
    supervised.wait_ready()
    first = supervised.identity
    assert first
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while supervised.identity == first or not supervised.ready.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    supervised.stop()


def test_a_component_that_cannot_be_restarted_is_reported_as_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[tuple[bool, int]] = []
    script = Script("import time; print('ready'); time.sleep(600)", tmp_path)
    supervised = Process("script", script, tmp_path / "log", print, lambda: None)
    supervised.on_change = lambda: reported.append((supervised.ready.is_set(), supervised.restarts))
    supervised.start()
    supervised.wait_ready()
    monkeypatch.setattr(script, "command", lambda: json.loads(""))
    assert supervised.identity
    os.kill(supervised.identity.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (False, 2) not in reported:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    supervised.stop()
    assert reported[:4] == [(False, 0), (True, 0), (False, 1), (False, 2)]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the signal handlers that a supervisor replaces."""
    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for signum, handler in previous.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("handlers")
def test_sighup_stays_ignored_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _raise_on_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_clean_up_neither_interrupts_it_nor_hides_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    supervisor = Supervisor(ROOT, State(tmp_path / "state"), 0, print)
    steps: list[str] = []

    def fail(cleanup: ExitStack) -> None:
        cleanup.callback(steps.append, "second")
        cleanup.callback(steps.append, "first")
        cleanup.callback(signal.raise_signal, signum)
        raise LocalError("it does not start")

    monkeypatch.setattr(supervisor, "_start_all", fail)
    with pytest.raises(LocalError, match="it does not start"):
        supervisor.run(lambda *_: None)
    assert steps == ["first", "second"]


@pytest.mark.usefixtures("handlers")
def test_a_stack_that_is_stopping_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path / "state")
    supervisor = Supervisor(ROOT, state, 0, print)
    ready: list[bool] = []

    def record() -> None:
        ready.append(state.read_state_file()["ready"])

    def stop() -> None:
        record()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(supervisor, "_start_all", lambda cleanup: cleanup.callback(record))
    monkeypatch.setattr(supervisor, "_start_schedule", lambda _: None)
    monkeypatch.setattr(state, "wait_until_removed", stop)
    assert supervisor.run(lambda *_: None)
    assert ready == [True, False]


def test_a_stack_is_not_ready_while_it_stops_the_processes_of_a_killed_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, leftover = State(tmp_path), Identity(1, "long ago")
    state.create()
    components = {"postgres": vars(leftover) | {"ready": True, "restarts": 0}}
    state.write_state_file({"pid": 1, "url": "http://old", "ready": True, "components": components, "settings": {}})
    stopped: list[Identity] = []

    def stop(processes: Iterable[Identity], _timeout: float) -> None:
        stopped.extend(processes)
        running = state.running()
        assert running
        assert (running["pid"], running["ready"]) == (os.getpid(), False)
        assert running["url"] != "http://old"
        # listed until it has exited, in case this stack is killed too
        assert running["components"]["postgres"] == vars(leftover) | {"ready": False, "restarts": 0}

    supervisor = Supervisor(ROOT, state, 0, print)
    for name in ("_start_servers", "_start_functions", "_serve"):
        monkeypatch.setattr(supervisor, name, lambda *_: None)
    monkeypatch.setattr("infra.local.supervisor.stop_all", stop)
    with ExitStack() as cleanup:
        supervisor._start_all(cleanup)
        assert stopped == [leftover]
        assert state.read_state_file()["components"] == {}


def test_a_token_file_in_the_secrets_directory_must_be_a_secret_of_stack_yml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN_FILE", "/var/openfaas/secrets/rollcall-api-token")
    Supervisor(ROOT, State(tmp_path), 0, print)._validate()
    monkeypatch.setenv("API_TOKEN_FILE", "/var/openfaas/secrets/my-token")
    with pytest.raises(LocalError, match=r"unknown secret 'my-token'; expected one of .*rollcall-api-token"):
        Supervisor(ROOT, State(tmp_path), 0, print)._validate()


def test_a_function_completes_a_request_that_arrives_shortly_before_it_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    shutdown, arriving, requests_at_exit = host.Shutdown(host.application(lambda *_: None)), iter([1]), list[int]()

    def sleep(_: float) -> None:
        for change in arriving:  # only during the first sleep: a request arrives, and ends 0.1 s later
            shutdown._count(change)
            Timer(0.1, shutdown._count, [-change]).start()

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(signal, "pthread_kill", lambda *_: requests_at_exit.append(shutdown._requests))
    shutdown._exit_when_idle()
    assert requests_at_exit == [0]


def test_a_process_with_a_reused_pid_is_not_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stop_all([Identity(child.pid, "long ago")], timeout=0)
        assert Identity.of(child.pid).alive()
        child.communicate(b"\n")
    assert not Identity.of(child.pid).alive()


@pytest.mark.skipif(not shutil.which("ps"), reason="ps is not installed")
def test_processes_are_identified_by_ps_if_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = Identity.of(child.pid)
        assert identity.alive()
        assert not Identity(child.pid, "Thu Jan  1 00:00:00 1970").alive()
        child.communicate(b"\n")
    assert not identity.alive()


def test_a_stale_state_file_does_not_count_as_running(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.create()
    state.write_state_file({"pid": os.getpid(), "url": "http://gateway", "ready": True})
    assert state.running() is None
    with state.locked():
        assert state.running() == {"pid": os.getpid(), "url": "http://gateway", "ready": True}
        with pytest.raises(LocalError, match="http://gateway"), state.locked():
            pass
    assert state.running() is None


@pytest.mark.parametrize("is_starting", [True, False])
def test_a_command_that_needs_the_stack_says_what_to_do(tmp_path: Path, *, is_starting: bool) -> None:
    state = State(tmp_path)
    state.create()
    state.write_state_file({"pid": os.getpid(), "ready": False})
    with ExitStack() as stack, pytest.raises(LocalError) as raised:
        if is_starting:
            stack.enter_context(state.locked())
        state.require_running()
    assert ("starts it" in str(raised.value), "try again" in str(raised.value)) == (not is_starting, is_starting)


def test_down_succeeds_if_the_stack_ends_by_itself_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(*_: int) -> None:
        raise ProcessLookupError

    state, supervisor = State(tmp_path), Identity.of(os.getpid())
    state.create()
    state.write_state_file({"pid": supervisor.pid, "started": supervisor.started})
    alive = iter([True, True, False])
    monkeypatch.setattr(Identity, "alive", lambda _: next(alive, False))
    monkeypatch.setattr(os, "kill", kill)
    with state.locked():
        assert main(["down", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Stopped.\n"


def test_env_quotes_values_for_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"empty": "", "plain": "0a1b", "api_token": "a$HOME `b` 'c' \"d\" #e; f\\g\nh"}
    state = State(tmp_path)
    state.create()
    state.write_state_file({"ready": True, "settings": settings})
    with state.locked():
        assert main(["env", "--state", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "plain=0a1b\n" in output
    assert read_env(output) == settings
    script = 'eval "$1"; printf "%s" "$api_token"'
    result = subprocess.run(["sh", "-c", script, "sh", output], capture_output=True, text=True, check=True)
    assert result.stdout == settings["api_token"]


@pytest.mark.parametrize("grpc_port", [1024, 10_000, 20_001])
def test_seaweedfs_gets_ten_different_valid_ports(grpc_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin server's port is its gRPC port minus 10,000, which may be invalid or another listener's port."""
    first = [*range(10_001, 10_010), grpc_port]
    choices = iter([first, list(range(20_011, 20_021))])
    monkeypatch.setattr(seaweedfs, "free_ports", lambda _: next(choices))
    monkeypatch.setattr(seaweedfs, "is_free", lambda _: True)
    ports = seaweedfs.choose_ports()
    assert ports["admin.port.grpc"] == 20_020
    assert len({*ports.values()}) == 10


def test_only_complete_log_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-01-01T00:00:00.000000Z 7 a b\n2026-01-02T00:00:00.000000Z 7 c\n2026-01-03T00")
    assert [line.text for line in read_lines(log)] == ["a b", "c"]
    assert [line.text for line in read_lines(log, last=1)] == ["c"]
    assert [line.text for line in read_lines(log, since="2026-01-02")] == ["c"]


def test_secrets_are_created_once_and_their_paths_become_local(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    value = credentials.get("name")
    assert len(value) >= 32
    assert credentials.get("name") == value
    assert (tmp_path / "name").stat().st_mode & 0o777 == 0o600
    local = credentials.with_local_paths({"x_file": "/var/openfaas/secrets/name", "y": "/var/other"})
    assert local == {"x_file": f"{tmp_path}/name", "y": "/var/other"}
    assert resolve_files(local) == {"x": value, "y": "/var/other"}


def test_no_other_program_can_take_a_functions_port_before_it_starts(tmp_path: Path) -> None:
    function = Replica({}, tmp_path)
    [bound] = function.command().sockets
    with bound, pytest.raises(LocalError, match=f"port {function.port} is in use"):
        reserve(function.port)


def test_an_inherited_socket_never_has_the_descriptor_of_a_standard_stream() -> None:
    """If `up` runs without standard streams, the descriptors 0 to 2 are free, but the guard replaces them."""
    code = "import os; from infra.local.runtime.ports import *; os.closerange(0, 3); os._exit(bound_socket().fileno())"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode >= 3


def test_free_ports_are_free_and_distinct() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with reserve(ports[0]), pytest.raises(LocalError, match=f"port {ports[0]} is in use"):
        reserve(ports[0])
