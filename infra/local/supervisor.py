"""The running stack: servers, functions, gateway and schedule, started in order and stopped in reverse."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from types import FrameType
from typing import Any

from waitress.server import create_server

from .config.accounts import PASSWORD_SECRETS, SUPERUSER
from .config.credentials import MOUNT, Credentials
from .config.stack import read_stack
from .errors import LocalError
from .gateway.gateway import Gateway
from .gateway.proxy import MAX_CALLS
from .gateway.schedule import Scheduler, read_schedules
from .output import Say
from .runtime.functions import Function
from .runtime.ports import LOOPBACK, reserve
from .runtime.processes import Component, Identity, Process, stop_all
from .runtime.state import State
from .servers.postgres import DATABASE, Postgres
from .servers.seaweedfs import REGION, RESULT_BUCKET, SOURCE_BUCKET, SeaweedFS

_SETTINGS = {
    "s3_region": REGION,
    "s3_secure": "false",
    "s3_ca_file": "",
    "source_bucket": SOURCE_BUCKET,
    "result_bucket": RESULT_BUCKET,
    "postgres_host": LOOPBACK,
    "postgres_database": DATABASE,
    "postgres_sslmode": "disable",
    "postgres_ca_file": "",
}
"""Settings that are the same in all stacks. `auth`, `s3_endpoint`, `postgres_port` and `gateway_url` are added when
a stack starts."""

_LEFTOVERS_TIMEOUT = 25
"""Seconds after which the processes left by a killed stack get SIGKILL. PostgreSQL takes longest to exit."""


class Supervisor:
    """Runs one stack until a signal arrives or its directory is removed. Reports its progress through `say`."""

    def __init__(self, root: Path, state: State, port: int, say: Say) -> None:
        self._root, self._state, self._port, self._say = root, state, port, ignoring_os_errors(say)
        self._credentials = Credentials(state.secrets)
        self._leftovers: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, Process] = {}
        self._functions: dict[str, Function] = {}
        self._environment = _with_absolute_token_file(os.environ)
        self._settings = _SETTINGS | {"auth": _auth(self._environment)}
        self._url = ""
        self._ready = False
        self._state_file_lock = Lock()

    def run(self, welcome: Callable[[str, Mapping[str, str]], None]) -> bool:
        """Start everything, call `welcome` with the URL and the operator's settings, and wait.

        A signal or the removal of the state directory ends the wait. Return whether the stack became ready. Raise
        LocalError if a component does not start. In any case, stop everything that was started.
        """
        self._validate()
        self._state.create()
        with ExitStack() as cleanup:
            stopping = _raise_on_signals()
            try:
                self._start_all(cleanup)
                welcome(self._url, self._operator_settings())
                self._start_schedule(cleanup)  # only now: a scheduled run would interfere with welcome()
                self._ready = True
                self._write_state_file()
                self._state.wait_until_removed()
                self._say(f"{self._state.directory} was removed: stopping …")
            except _Terminated:
                self._say("Stopping …")
            finally:
                stopping.set()  # a signal must not interrupt the clean-up
                was_ready, self._ready = self._ready, False
                if was_ready:  # then the state file is this supervisor's own
                    ignoring_os_errors(self._write_state_file)()
        return was_ready

    def _validate(self) -> None:
        """Raise LocalError for errors in stack.yml and the environment, before anything is started."""
        placeholders = dict.fromkeys(("S3_ENDPOINT", "POSTGRES_PORT"), "not known yet")
        stack = read_stack(self._root, self._variables() | placeholders)
        read_schedules(stack.functions)
        _check_token_file(self._environment, {name for spec in stack.functions for name in spec.secrets})

    def _start_all(self, cleanup: ExitStack) -> None:
        cleanup.enter_context(self._state.locked())
        self._leftovers = self._state.leftovers()
        reserved = cleanup.enter_context(reserve(self._port))
        self._url = self._settings["gateway_url"] = f"http://{LOOPBACK}:{reserved.getsockname()[1]}"
        self._write_state_file()
        leftovers = [Identity(entry["pid"], entry["started"]) for entry in self._leftovers.values()]
        stop_all(leftovers, _LEFTOVERS_TIMEOUT)
        self._leftovers = {}
        self._write_state_file()
        cleanup.callback(self._state.remove_state_file)
        self._start_servers(cleanup)
        self._start_functions(cleanup)
        self._serve(cleanup, reserved)

    def _start_servers(self, cleanup: ExitStack) -> None:
        self._say("Starting PostgreSQL and the S3 server …")
        postgres = Postgres(self._state, self._credentials)
        seaweedfs = SeaweedFS(self._state, self._credentials)
        cleanup.callback(seaweedfs.remove_sockets)
        servers = [self._start(cleanup, "seaweedfs", seaweedfs), self._start(cleanup, "postgres", postgres)]
        self._wait_ready(cleanup, servers)
        postgres.set_up()
        self._settings |= {"s3_endpoint": seaweedfs.endpoint, "postgres_port": str(postgres.port)}

    def _start_functions(self, cleanup: ExitStack) -> None:
        stack = read_stack(self._root, self._variables())
        self._say(f"Starting {' and '.join(spec.name for spec in stack.functions)} …")
        for spec in stack.functions:
            function = self._functions[spec.name] = Function(spec, stack, self._state, self._credentials)
            for number, replica in enumerate(function.replicas, start=1):
                name = spec.name if number == 1 else f"{spec.name} {number}"
                replica.process = self._start(cleanup, name, replica, log=spec.name)
        processes = [replica.process for function in self._functions.values() for replica in function.replicas]
        self._wait_ready(cleanup, processes)

    def _start(self, cleanup: ExitStack, name: str, component: Component, *, log: str | None = None) -> Process:
        component.prepare()
        path = self._state.logs / f"{log or name}.log"
        process = Process(name, component, path, self._say, ignoring_os_errors(self._write_state_file))
        self._processes[name] = process
        cleanup.callback(process.stop)
        process.start()
        return process

    @staticmethod
    def _wait_ready(cleanup: ExitStack, processes: Sequence[Process]) -> None:
        """Wait until these processes are ready, and let the clean-up stop them in parallel."""
        for process in processes:
            cleanup.callback(process.request_stop)  # runs before the first `stop`, which waits: last in, first out
        for process in processes:
            process.wait_ready()

    def _serve(self, cleanup: ExitStack, reserved: socket.socket) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # the proxy reports interrupted responses itself
        path = self._operator_settings().get("api_token_file")
        token_file = Path(path) if path else None
        server = create_server(
            Gateway(self._functions, self._state.logs, self._say, token_file).application(),
            sockets=[reserved],
            threads=MAX_CALLS,
            connection_limit=2000,
            asyncore_use_poll=True,
            max_request_body_size=1 << 40,  # the functions have their own limit
            outbuf_high_watermark=1 << 20,  # backpressure: a slow client slows its function, as with the real gateway
            clear_untrusted_proxy_headers=False,
            ident=None,
        )
        Thread(target=server.run, name="gateway", daemon=True).start()
        cleanup.callback(server.close)

    def _start_schedule(self, cleanup: ExitStack) -> None:
        schedules = read_schedules(function.spec for function in self._functions.values())
        scheduler = Scheduler(schedules, self._url, self._say)
        cleanup.callback(scheduler.stop)
        scheduler.start()

    def _variables(self) -> dict[str, str]:
        """Return the variables for stack.yml: the environment, overridden by this stack's settings."""
        return self._environment | {name.upper(): value for name, value in self._settings.items()}

    def _write_state_file(self) -> None:
        """Write the state file for other commands, and for the next `up` in case this process is killed."""
        with self._state_file_lock:
            supervisor = Identity.of(os.getpid())
            components = {name: process.status() for name, process in list(self._processes.items())}
            self._state.write_state_file(
                {
                    "pid": supervisor.pid,
                    "started": supervisor.started,
                    "url": self._url,
                    "ready": self._ready,
                    "components": self._leftovers | components,
                    "settings": self._operator_settings(),
                    "functions": {name: function.environment for name, function in list(self._functions.items())},
                }
            )

    def _operator_settings(self) -> dict[str, str]:
        """Return the settings of the operator, who has full access. Secrets are given as paths of files."""
        secrets = {
            "s3_access_key_file": "operator-s3-access-key",
            "s3_secret_key_file": "operator-s3-secret-key",
            "postgres_password_file": PASSWORD_SECRETS[SUPERUSER],
        }
        paths = {name: str(self._state.secrets / secret) for name, secret in secrets.items()}
        for function in list(self._functions.values()):
            if self._settings["auth"] == "token" and (path := function.environment.get("api_token_file")):
                paths["api_token_file"] = path
        return self._settings | {"postgres_user": SUPERUSER} | paths


def ignoring_os_errors(call: Callable[..., None]) -> Callable[..., None]:
    """Wrap `call` to ignore OSError: a full disk or a closed terminal must not stop the stack."""

    def wrapper(*arguments: str) -> None:
        with suppress(OSError):
            call(*arguments)

    return wrapper


def _auth(variables: Mapping[str, str]) -> str:
    """Return the setting `auth`. Without a token file the default is `none`, as the stack listens on loopback only."""
    return variables.get("AUTH") or ("token" if variables.get("API_TOKEN_FILE") else "none")


def _with_absolute_token_file(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with an absolute API_TOKEN_FILE, as the functions have other working directories."""
    path = variables.get("API_TOKEN_FILE")
    return {**variables, "API_TOKEN_FILE": str(Path(path).absolute())} if path else dict(variables)


def _check_token_file(variables: Mapping[str, str], secrets: Collection[str]) -> None:
    """Raise LocalError if API_TOKEN_FILE is neither a file with a token nor the mount path of one of the `secrets`."""
    path = variables.get("API_TOKEN_FILE")
    if not path:
        return
    if path.startswith(MOUNT):
        if (name := path.removeprefix(MOUNT)) not in secrets:
            expected = ", ".join(sorted(secrets)) or "(no secrets)"
            raise LocalError(f"API_TOKEN_FILE={path!r}: unknown secret {name!r}; expected one of {expected}")
        return
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"API_TOKEN_FILE={path!r} cannot be read: {error}") from error
    if not token:
        raise LocalError(f"API_TOKEN_FILE={path!r} is empty: expected the API token")


class _Terminated(BaseException):
    """A termination signal was received."""


def _raise_on_signals() -> Event:
    """Raise _Terminated in the main thread at the first termination signal.

    Return an event that this signal sets. While it is set, further signals are ignored. SIGHUP stays ignored if it
    already is, as under nohup.
    """
    stopping = Event()

    def terminate(_: int, __: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            raise _Terminated

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, terminate)
    return stopping
