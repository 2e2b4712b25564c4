"""The running stack: servers, functions, gateway and schedule, started in order and stopped in reverse."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import waitress.server

from .credentials import Credentials
from .functions import Function
from .gateway import Gateway
from .ports import LOOPBACK, reserve
from .postgres import DATABASE, PASSWORDS, Postgres
from .processes import Process
from .schedule import Scheduler, read_schedules
from .seaweedfs import REGION, RESULT_BUCKET, SOURCE_BUCKET, SeaweedFS
from .stack import Stack, read_stack
from .state import State

_GATEWAY = {
    "threads": 32,
    "max_request_body_size": 1 << 40,  # functions judge for themselves
    "channel_timeout": 3600,
    "clear_untrusted_proxy_headers": False,
    "ident": None,
}


class Supervisor:
    """One stack, from `run` until a signal. It prints what a person would want to know."""

    def __init__(self, root: Path, state: State, port: int, say: Callable[[str], None]) -> None:
        self._root, self._state, self._say = root, state, say
        self._port = port
        self._credentials = Credentials(state.secrets)
        self._processes: dict[str, Process] = {}
        self._functions: dict[str, Function] = {}
        self._settings: dict[str, str] = {}
        self._url = ""
        self._ready = False
        self._recording = Lock()

    def run(self, welcome: Callable[[str, Mapping[str, str]], None]) -> None:
        """Bring everything up, call `welcome` with the URL and the operator's settings, stay until a signal.

        LocalError when something can't be brought up; whatever was started is stopped first.
        """
        _check_stack(self._root)
        self._state.create()
        with _termination() as ended, ExitStack() as started:
            started.enter_context(self._state.locked())
            reserved = started.enter_context(reserve(self._port))
            self._url = f"http://{LOOPBACK}:{reserved.getsockname()[1]}"
            self._record()
            self._state.end_leftovers()
            started.callback(self._state.clear_record)
            self._start_servers(started)
            self._start_functions(started)
            self._serve(started, reserved)
            welcome(self._url, self._operator())
            self._ready = True
            self._record()
            ended.wait()
            self._say("Stopping …")

    def _start_servers(self, started: ExitStack) -> None:
        self._say("Starting PostgreSQL and the S3 server …")
        postgres = Postgres(self._state, self._credentials)
        seaweedfs = SeaweedFS(self._state, self._credentials)
        servers: dict[str, Postgres | SeaweedFS] = {"postgres": postgres, "seaweedfs": seaweedfs}
        started.callback(seaweedfs.remove_sockets)
        for name, server in servers.items():
            server.prepare()
            self._start(started, name, server)
        for name in servers:
            self._processes[name].wait_ready()
        postgres.grant()
        self._settings = {
            "s3_endpoint": seaweedfs.endpoint,
            "s3_region": REGION,
            "s3_secure": "false",
            "source_bucket": SOURCE_BUCKET,
            "result_bucket": RESULT_BUCKET,
            "postgres_host": LOOPBACK,
            "postgres_port": str(postgres.port),
            "postgres_database": DATABASE,
            "postgres_sslmode": "disable",
        }

    def _start_functions(self, started: ExitStack) -> None:
        variables = os.environ | {name.upper(): value for name, value in self._settings.items()}
        stack = read_stack(self._root, variables)
        self._say(f"Starting {' and '.join(spec.name for spec in stack.functions)} …")
        for spec in stack.functions:
            function = Function(spec, stack, self._state, self._credentials)
            self._functions[spec.name] = function
            function.process = self._start(started, spec.name, function)
        for function in self._functions.values():
            function.process.wait_ready()

    def _start(self, started: ExitStack, name: str, what: Postgres | SeaweedFS | Function) -> Process:
        log = self._state.logs / f"{name}.log"
        process = Process(name, log, what.command, what.is_ready, self._say, self._record)
        self._processes[name] = process
        started.callback(process.stop)
        process.start()
        return process

    def _serve(self, started: ExitStack, reserved: socket.socket) -> None:
        app = Gateway(self._functions, self._state.logs).application()
        server = waitress.server.create_server(app, sockets=[reserved], **_GATEWAY)
        Thread(target=server.run, name="gateway", daemon=True).start()
        started.callback(server.close)
        schedules = read_schedules(function.spec for function in self._functions.values())
        scheduler = Scheduler(schedules, self._url)
        started.callback(scheduler.stop)
        scheduler.start()

    def _record(self) -> None:
        """Write down what runs, for the other commands and for the `up` after a crash."""
        with self._recording:
            parts = {
                name: {
                    "pid": process.identity.pid,
                    "started": process.identity.started,
                    "ready": process.ready.is_set(),
                    "restarts": process.restarts,
                }
                for name, process in self._processes.items()
                if process.identity
            }
            self._state.write_record(
                {
                    "pid": os.getpid(),
                    "url": self._url,
                    "ready": self._ready,
                    "parts": parts,
                    "settings": self._operator(),
                    "functions": {name: function.environment for name, function in self._functions.items()},
                }
            )

    def _operator(self) -> dict[str, str]:
        """The settings of whoever looks after the stack; secrets as paths."""
        secrets = {
            "s3_access_key_file": "operator-s3-access-key",
            "s3_secret_key_file": "operator-s3-secret-key",
            "postgres_password_file": PASSWORDS["rollcall_process"],
        }
        paths = {name: str(self._state.secrets / secret) for name, secret in secrets.items()}
        return self._settings | {"postgres_user": "rollcall_process", "gateway_url": self._url} | paths


def _check_stack(root: Path) -> Stack:
    """Find mistakes in stack.yml before anything is started."""
    endpoints = ("S3_ENDPOINT", "POSTGRES_HOST", "POSTGRES_PORT")
    stack = read_stack(root, dict.fromkeys(endpoints, "to be known") | os.environ)
    read_schedules(stack.functions)
    for spec in stack.functions:
        _ = spec.exec_timeout
    return stack


@contextmanager
def _termination() -> Iterator[Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set; the former handlers come back at the end."""
    ended = Event()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former: Mapping[signal.Signals, Any] = {one: signal.signal(one, lambda *_: ended.set()) for one in signals}
    try:
        yield ended
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
