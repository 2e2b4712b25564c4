"""The running stack: servers, functions, gateway and schedule, started in order and stopped in reverse."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock, Thread
from types import FrameType

from waitress.server import create_server

from .credentials import Credentials
from .functions import Function
from .gateway import Gateway
from .ports import LOOPBACK, reserve
from .postgres import DATABASE, PASSWORDS, SUPERUSER, Postgres
from .processes import Identity, Part, Process, end_all
from .proxy import MAX_CALLS
from .schedule import Scheduler, read_schedules
from .seaweedfs import REGION, RESULT_BUCKET, SOURCE_BUCKET, SeaweedFS
from .stack import read_stack
from .state import State

Say = Callable[[str], None]

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
"""Of every stack; the ports are each one's own."""

_LEFTOVERS = 25
"""Seconds that the guards of a killed stack are given; PostgreSQL's are the longest."""


class Supervisor:
    """One stack, from `run` until a signal. It says what a person would want to know."""

    def __init__(self, root: Path, state: State, port: int, say: Say) -> None:
        self._root, self._state, self._port, self._say = root, state, port, say
        self._credentials = Credentials(state.secrets)
        self._processes: dict[str, Process] = {}
        self._functions: dict[str, Function] = {}
        self._settings = _SETTINGS | {"auth": _auth(os.environ)}
        self._url = ""
        self._ready = False
        self._recording = Lock()

    def run(self, welcome: Callable[[str, Mapping[str, str]], None]) -> bool:
        """Bring everything up, call `welcome` with the URL and the operator's settings, stay until a signal.

        Returns whether it was ready before the signal came. LocalError when something can't be brought up.
        What was started is stopped in any case.
        """
        self._check()
        self._state.create()
        with ExitStack() as started:
            _on_termination()
            try:
                self._bring_up(started)
                welcome(self._url, self._operator())
                self._start_schedule(started)  # not before: it would do what a newcomer is being shown
                self._ready = True
                self._record()
                self._state.wait_until_gone()
                self._say(f"{self._state.directory} was removed: stopping …")
            except _Terminated:
                self._say("Stopping …")
        return self._ready

    def _check(self) -> None:
        """Find mistakes in stack.yml before anything is started."""
        unknown = dict.fromkeys(("S3_ENDPOINT", "POSTGRES_PORT"), "known later")
        stack = read_stack(self._root, self._variables() | unknown)
        read_schedules(stack.functions)
        for spec in stack.functions:
            _ = spec.exec_timeout, spec.replicas

    def _bring_up(self, started: ExitStack) -> None:
        started.enter_context(self._state.locked())
        leftovers = self._state.leftovers()
        reserved = started.enter_context(reserve(self._port))
        self._url = self._settings["gateway_url"] = f"http://{LOOPBACK}:{reserved.getsockname()[1]}"
        self._record()
        started.callback(self._state.clear_record)
        end_all(leftovers, _LEFTOVERS)
        self._start_servers(started)
        self._start_functions(started)
        self._serve(started, reserved)

    def _start_servers(self, started: ExitStack) -> None:
        self._say("Starting PostgreSQL and the S3 server …")
        postgres = Postgres(self._state, self._credentials)
        seaweedfs = SeaweedFS(self._state, self._credentials)
        started.callback(seaweedfs.remove_sockets)
        servers = [self._start(started, "seaweedfs", seaweedfs), self._start(started, "postgres", postgres)]
        for server in servers:
            server.wait_ready()
        postgres.set_up()
        self._settings |= {"s3_endpoint": seaweedfs.endpoint, "postgres_port": str(postgres.port)}

    def _start_functions(self, started: ExitStack) -> None:
        stack = read_stack(self._root, self._variables())
        self._say(f"Starting {' and '.join(spec.name for spec in stack.functions)} …")
        for spec in stack.functions:
            function = self._functions[spec.name] = Function(spec, stack, self._state, self._credentials)
            for number, replica in enumerate(function.replicas, start=1):
                name = spec.name if number == 1 else f"{spec.name} {number}"
                replica.process = self._start(started, name, replica, log=spec.name)
        for function in self._functions.values():
            for replica in function.replicas:
                replica.process.wait_ready()

    def _start(self, started: ExitStack, name: str, part: Part, *, log: str | None = None) -> Process:
        part.prepare()
        process = Process(name, part, self._state.logs / f"{log or name}.log", self._say, self._record)
        self._processes[name] = process
        started.callback(process.stop)
        process.start()
        return process

    def _serve(self, started: ExitStack, reserved: socket.socket) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # the proxy says itself what it cuts
        token = self._operator().get("api_token_file")
        server = create_server(
            Gateway(self._functions, self._state.logs, self._say, Path(token) if token else None).application(),
            sockets=[reserved],
            threads=MAX_CALLS,
            connection_limit=2000,
            asyncore_use_poll=True,
            max_request_body_size=1 << 40,  # the functions judge for themselves
            outbuf_high_watermark=1 << 20,  # a function soon waits for its client, as behind the real gateway
            clear_untrusted_proxy_headers=False,
            ident=None,
        )
        Thread(target=server.run, name="gateway", daemon=True).start()
        started.callback(server.close)

    def _start_schedule(self, started: ExitStack) -> None:
        schedules = read_schedules(function.spec for function in self._functions.values())
        scheduler = Scheduler(schedules, self._url, self._say)
        started.callback(scheduler.stop)
        scheduler.start()

    def _variables(self) -> dict[str, str]:
        """What stack.yml may refer to: the environment, and this stack's own settings before it."""
        return dict(os.environ) | {name.upper(): value for name, value in self._settings.items()}

    def _record(self) -> None:
        """Write down what runs, for the other commands and for the `up` after a crash."""
        with self._recording:
            me = Identity.of(os.getpid())
            self._state.write_record(
                {
                    "pid": me.pid,
                    "started": me.started,
                    "url": self._url,
                    "ready": self._ready,
                    "parts": {name: process.status() for name, process in self._processes.items()},
                    "settings": self._operator(),
                    "functions": {name: function.environment for name, function in self._functions.items()},
                }
            )

    def _operator(self) -> dict[str, str]:
        """The settings of whoever looks after the stack, who may do anything; secrets as paths."""
        secrets = {
            "s3_access_key_file": "operator-s3-access-key",
            "s3_secret_key_file": "operator-s3-secret-key",
            "postgres_password_file": PASSWORDS[SUPERUSER],
        }
        paths = {name: str(self._state.secrets / secret) for name, secret in secrets.items()}
        for function in self._functions.values():
            if self._settings["auth"] == "token" and (token := function.environment.get("api_token_file")):
                paths["api_token_file"] = token
        return self._settings | {"postgres_user": SUPERUSER} | paths


def _auth(variables: Mapping[str, str]) -> str:
    """How requests are authenticated: not at all unless something says so, as everything listens on loopback."""
    return variables.get("AUTH") or ("token" if variables.get("API_TOKEN_FILE") else "none")


class _Terminated(BaseException):
    """A signal asks to stop."""


def _on_termination() -> None:
    """Raise _Terminated in the main thread at the first signal; later ones don't disturb the stopping."""
    ended = Event()

    def terminate(_: int, __: FrameType | None) -> None:
        if not ended.is_set():
            ended.set()
            raise _Terminated

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, terminate)
