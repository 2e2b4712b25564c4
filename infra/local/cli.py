"""The commands of `python3 infra/local`."""

import argparse
import heapq
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from .config.credentials import resolve_files
from .config.deployment import make_secrets
from .config.stack import read_stack
from .environment import ROOT
from .errors import LocalError
from .runtime.logs import read_lines
from .runtime.processes import Identity
from .runtime.state import DEFAULT, State

if TYPE_CHECKING:
    import minio

# `_up`, `_upload` and `_operator_client` import lazily: the other commands start half a second sooner.

STOP_TIMEOUT = 60
"""Seconds that `down` waits for the stack to stop."""

RUN = "import pathlib, sys; from infra.local.cli import main; sys.exit(main(sys.argv[2:], pathlib.Path(sys.argv[1])))"
"""The program for `python -c`. Its arguments are the project's root, then the command line for `main`."""

DETACHED_LOG = "up.log"


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run a command on the stack that `root`/stack.yml describes; return the exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for characters that the terminal cannot show
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options, State(options.state), root)
    except LocalError as error:
        print(f"rollcall: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        path = f"{error.filename}: " if error.filename else ""
        print(f"rollcall: {path}{error.strerror}: it may belong to another user", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # such as when piped into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 infra/local", description="Rollcall on this machine: real servers, no Docker, no root."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, description: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=description, description=description)
        state_help = "the directory of the stack's data"
        subparser.add_argument("--state", type=Path, default=DEFAULT, metavar="DIR", help=state_help)
        return subparser

    up = command("up", "start the stack and run in the foreground")
    up.add_argument("--detach", action="store_true", help="run in the background; return when everything is ready")
    up.add_argument("--port", type=int, default=8080, metavar="N", help="the gateway's port; 0 chooses a free one")
    up.add_argument("--no-sample", action="store_true", help="do not load the sample files or run the demo")
    command("down", "stop the stack")
    command("status", "show the running processes")
    command("logs", "print the logs of the functions and servers").add_argument("name", nargs="?", metavar="NAME")
    upload_command = command("upload", "upload a directory's files to the source bucket")
    upload_command.add_argument("directory", type=Path, metavar="DIR")
    env_help = "print the operator's endpoints and credentials, or those of the function NAME, as name=value lines"
    command("env", env_help).add_argument("name", nargs="?", metavar="NAME")
    secrets_help = "generate the secrets of a deployment in a directory; keep those that exist"
    secrets = commands.add_parser("secrets", help=secrets_help, description=secrets_help)
    secrets.add_argument("directory", type=Path, metavar="DIR")
    secrets.set_defaults(state=DEFAULT)
    return parser


def _up(options: argparse.Namespace, state: State, root: Path) -> int:
    os.umask(0o077)  # inherited by the servers: their files and sockets are private too
    if options.detach:
        return _detach(options, state, root)

    from .demo.tour import call_functions, load_sample
    from .servers.seaweedfs import SOURCE_BUCKET
    from .supervisor import Supervisor

    def welcome(url: str, settings: Mapping[str, str]) -> None:
        if not options.no_sample:
            load_sample(_operator_client(settings), SOURCE_BUCKET, _say)
            call_functions(url, resolve_files(settings).get("api_token"), _say)
        _say(_guide(url, state))

    return 0 if Supervisor(root, state, options.port, _say).run(welcome) else 1


def _detach(options: argparse.Namespace, state: State, root: Path) -> int:
    """Run `up` in a new session, print its output, and return when it is ready or has exited."""
    state.create()
    with state.locked():  # fails if a stack is already running
        pass
    arguments = ["up", "--port", str(options.port), "--state", str(state.directory)]
    arguments += ["--no-sample"] if options.no_sample else []
    log = state.logs / DETACHED_LOG
    with log.open("w") as output, log.open(encoding="utf-8", errors="replace") as reader:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-c", RUN, str(root), *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while supervisor.poll() is None and not _is_ready(state, supervisor.pid):
                time.sleep(0.05)
                print(reader.read(), end="", flush=True)
        except BaseException:
            supervisor.terminate()
            raise
        print(reader.read(), end="", flush=True)
    return supervisor.poll() or 0


def _is_ready(state: State, pid: int) -> bool:
    running = state.read_state_file()
    return running.get("pid") == pid and running.get("ready") is True


def _down(_: argparse.Namespace, state: State, __: Path) -> int:
    running = state.running()
    if running is None:
        _say(f"No stack is running in {state.directory}.")
        return 0
    supervisor = Identity(running.get("pid", 0), running.get("started", ""))
    if not supervisor.alive():  # the state file is not written yet, or already removed
        raise LocalError(f"the stack in {state.directory} is starting or stopping; try again")
    supervisor.send(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while supervisor.alive():
        if time.monotonic() > deadline:
            raise LocalError(f"the stack (pid {supervisor.pid}) has not stopped after {STOP_TIMEOUT} s")
        time.sleep(0.05)
    _say("Stopped.")
    return 0


def _status(_: argparse.Namespace, state: State, __: Path) -> int:
    running = state.running()
    if running is None:
        _say(f"No stack is running in {state.directory}.")
        return 1
    status = "ready" if running.get("ready") else "not ready"
    _say(f"{running.get('url', '')}  {status}  (pid {running.get('pid', 'not known yet')})")
    for name, component in running.get("components", {}).items():
        status = "ready" if component["ready"] else "not ready"
        restarts = f"  restarts: {component['restarts']}" if component["restarts"] else ""
        _say(f"  {name:<14} {status:<9} pid {component['pid']}{restarts}")
    return 0


def _logs(options: argparse.Namespace, state: State, __: Path) -> int:
    files = {path.stem: path for path in sorted(state.logs.glob("*.log")) if path.name != DETACHED_LOG}
    if options.name is not None and options.name not in files:
        expected = f"expected one of {', '.join(files)}" if files else "there are no logs yet"
        raise LocalError(f"unknown log {options.name!r}; {expected}")
    selected = files if options.name is None else {options.name: files[options.name]}
    for logged_at, name, text in heapq.merge(*(_lines_with_name(name, path) for name, path in selected.items())):
        print(f"{logged_at} {name}: {text}" if options.name is None else f"{logged_at} {text}")
    return 0


def _lines_with_name(name: str, path: Path) -> Iterator[tuple[str, str, str]]:
    for line in read_lines(path):
        yield line.logged_at, name, line.text


def _upload(options: argparse.Namespace, state: State, __: Path) -> int:
    from .demo.upload import upload
    from .servers.seaweedfs import SOURCE_BUCKET

    upload(_operator_client(state.require_running()["settings"]), SOURCE_BUCKET, options.directory, _say)
    return 0


def _env(options: argparse.Namespace, state: State, __: Path) -> int:
    running = state.require_running()
    environment = running["settings"]
    if options.name is not None:
        environment = running["functions"].get(options.name)
        if environment is None:
            raise LocalError(f"unknown function {options.name!r}; expected one of {', '.join(running['functions'])}")
    for name, value in resolve_files(environment).items():
        print(f"{name}={shlex.quote(value)}")
    return 0


def _secrets(options: argparse.Namespace, _: State, root: Path) -> int:
    created = make_secrets(options.directory, read_stack(root, os.environ).functions)
    _say(f"Created {', '.join(created)} in {options.directory}." if created else f"{options.directory} is complete.")
    return 0


def _operator_client(settings: Mapping[str, str]) -> "minio.Minio":
    from .demo.upload import THREADS
    from .servers.seaweedfs import s3_client

    values = resolve_files(settings)
    keys = {"accessKey": values["s3_access_key"], "secretKey": values["s3_secret_key"]}
    return s3_client(values["s3_endpoint"], keys, connections=THREADS)


def _guide(url: str, state: State) -> str:
    return f"""
Rollcall is ready.
  {url}/function/process-data   POST: process the files in the source bucket
  {url}/function/query-data     GET: query, e.g. ?min_age=30.5&is_image_exists=true
  {state.command("upload DIR")}   upload your own <user_id>.csv files and photos
  {state.command("down")}         stop the stack (in the foreground: Ctrl-C)
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
