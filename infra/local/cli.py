"""The commands of `python3 infra/local`."""

import argparse
import heapq
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path

import minio

from .credentials import resolved
from .deployment import make_secrets
from .environment import ROOT
from .errors import LocalError
from .logs import read_lines
from .processes import Identity
from .seaweedfs import SOURCE_BUCKET, s3_client
from .stack import read_stack
from .state import DEFAULT, State
from .supervisor import Supervisor
from .tour import load_sample, show_functions
from .upload import THREADS, upload

STOPPING = 60
"""Seconds that `down` waits."""

RUN = "import pathlib, sys; from infra.local.cli import main; sys.exit(main(sys.argv[2:], pathlib.Path(sys.argv[1])))"
"""For `python -c`, followed by a project's root and a command's words."""

DETACHED_LOG = "up.log"


def main(words: list[str], root: Path = ROOT) -> int:
    """Run a command of the stack that `root`/stack.yml describes; returns the exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # whatever the terminal can't show
    options = _parser().parse_args(words)
    try:
        return _COMMANDS[options.command](options, State(options.state), root)
    except LocalError as error:
        print(f"rollcall: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"rollcall: {what}{error.strerror}: it may belong to another user", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as when the reader is `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 infra/local", description="Rollcall on this machine: real servers, no Docker, no root."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, description: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=description, description=description)
        where = "where the stack keeps its data"
        one.add_argument("--state", type=Path, default=DEFAULT, metavar="DIR", help=where)
        return one

    up = command("up", "start everything and stay until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return when everything is ready")
    up.add_argument("--port", type=int, default=8080, metavar="N", help="the gateway's port; 0 takes a free one")
    up.add_argument("--no-sample", action="store_true", help="upload and invoke nothing")
    command("down", "stop everything")
    command("status", "say what runs")
    command("logs", "print what the functions and servers wrote").add_argument("name", nargs="?", metavar="function")
    sending = command("upload", "upload a directory's files to the source bucket")
    sending.add_argument("directory", type=Path, metavar="DIR")
    env = command("env", "print endpoints and credentials as name=value lines, the operator's or a function's")
    env.add_argument("name", nargs="?", metavar="function")
    making = "make the secrets of a deployment that a directory does not have yet"
    secrets = commands.add_parser("secrets", help=making, description=making)
    secrets.add_argument("directory", type=Path, metavar="DIR")
    secrets.set_defaults(state=DEFAULT)
    return parser


def _up(options: argparse.Namespace, state: State, root: Path) -> int:
    os.umask(0o077)  # also for the servers: what they make, sockets among it, is this user's alone
    if options.detach:
        return _detach(options, state, root)

    def welcome(url: str, settings: Mapping[str, str]) -> None:
        if not options.no_sample:
            load_sample(_operator_client(settings), SOURCE_BUCKET, _say)
            show_functions(url, resolved(settings).get("api_token"), _say)
        _say(_guide(url, state))

    return 0 if Supervisor(root, state, options.port, _say).run(welcome) else 1


def _detach(options: argparse.Namespace, state: State, root: Path) -> int:
    """Run `up` in a session of its own, show what it says, and return when it is ready or has ended."""
    state.create()
    with state.locked():  # else another stack runs
        pass
    words = ["up", "--port", str(options.port), "--state", str(state.directory)]
    words += ["--no-sample"] if options.no_sample else []
    log = state.logs / DETACHED_LOG
    with log.open("w") as written, log.open(encoding="utf-8", errors="replace") as shown:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-c", RUN, str(root), *words],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while supervisor.poll() is None and not _is_ready(state, supervisor.pid):
                time.sleep(0.05)
                print(shown.read(), end="", flush=True)
        except BaseException:
            supervisor.terminate()
            raise
        print(shown.read(), end="", flush=True)
    return supervisor.poll() or 0


def _is_ready(state: State, pid: int) -> bool:
    record = state.read_record()
    return record.get("pid") == pid and record.get("ready") is True


def _down(_: argparse.Namespace, state: State, __: Path) -> int:
    running = state.running()
    if running is None:
        _say(f"Nothing runs in {state.directory}.")
        return 0
    supervisor = Identity(running.get("pid", 0), running.get("started", ""))
    if not supervisor.alive():  # the lock is held by one that has not written down its own pid yet
        raise LocalError(f"the stack of {state.directory} is only just starting; try again")
    os.kill(supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOPPING
    while supervisor.alive():
        if time.monotonic() > deadline:
            raise LocalError(f"the stack (pid {supervisor.pid}) has not stopped after {STOPPING} s")
        time.sleep(0.05)
    _say("Stopped.")
    return 0


def _status(_: argparse.Namespace, state: State, __: Path) -> int:
    running = state.running()
    if running is None:
        _say(f"Nothing runs in {state.directory}.")
        return 1
    how = "ready" if running.get("ready") else "starting"
    _say(f"{running.get('url', '')}  {how}  (pid {running.get('pid', 'not known yet')})")
    for name, part in running.get("parts", {}).items():
        how = "ready" if part["ready"] else "starting"
        again = f"  started again {part['restarts']} times" if part["restarts"] else ""
        _say(f"  {name:<14} {how:<9} pid {part['pid']}{again}")
    return 0


def _logs(options: argparse.Namespace, state: State, __: Path) -> int:
    files = {path.stem: path for path in sorted(state.logs.glob("*.log")) if path.name != DETACHED_LOG}
    if options.name is not None and options.name not in files:
        raise LocalError(f"there is no log of {options.name!r}; there are: {', '.join(files) or 'none'}")
    wanted = files if options.name is None else {options.name: files[options.name]}
    for at, name, text in heapq.merge(*(_named_lines(name, path) for name, path in wanted.items())):
        print(f"{at} {name}: {text}" if options.name is None else f"{at} {text}")
    return 0


def _named_lines(name: str, path: Path) -> Iterator[tuple[str, str, str]]:
    for line in read_lines(path):
        yield line.at, name, line.text


def _upload(options: argparse.Namespace, state: State, __: Path) -> int:
    upload(_operator_client(state.require_running()["settings"]), SOURCE_BUCKET, options.directory, _say)
    return 0


def _env(options: argparse.Namespace, state: State, __: Path) -> int:
    running = state.require_running()
    environment = running["settings"]
    if options.name is not None:
        environment = running["functions"].get(options.name)
        if environment is None:
            there = ", ".join(running["functions"])
            raise LocalError(f"there is no function {options.name!r}; there are: {there}")
    for name, text in resolved(environment).items():
        print(f"{name}={text}")
    return 0


def _secrets(options: argparse.Namespace, _: State, root: Path) -> int:
    made = make_secrets(options.directory, read_stack(root, os.environ).functions)
    _say(f"Made {', '.join(made)} in {options.directory}." if made else f"{options.directory} has them all.")
    return 0


def _operator_client(settings: Mapping[str, str]) -> minio.Minio:
    values = resolved(settings)
    keys = {"accessKey": values["s3_access_key"], "secretKey": values["s3_secret_key"]}
    return s3_client(values["s3_endpoint"], keys, connections=THREADS)


def _guide(url: str, state: State) -> str:
    return f"""
Rollcall is ready.
  {url}/function/process-data   POST: bring the roll up to date
  {url}/function/query-data     GET: ask, e.g. ?min_age=30.5&is_image_exists=true
  {state.command("upload DIR")}   upload your own <user_id>.csv files and photos
  {state.command("down")}         stop everything (without --detach, Ctrl-C does too)
"""


def _say(line: str) -> None:
    print(line, flush=True)


_COMMANDS: dict[str, Callable[[argparse.Namespace, State, Path], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "upload": _upload,
    "env": _env,
    "secrets": _secrets,
}
