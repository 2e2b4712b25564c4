"""The S3 server: SeaweedFS in one process, on loopback, with the identities that `accounts` writes.

Its master, volume, filer and admin servers check no identities: any client that reached them could read and write
every object. They therefore use TLS and require a client certificate, which only the components of this process have.
"""

import os
import shutil
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import minio
import minio.error
import urllib3

from ..config.accounts import access_keys, write_identities
from ..config.credentials import Credentials
from ..runtime.ports import LOOPBACK, free_ports, is_free
from ..runtime.processes import Command
from ..runtime.state import State, read_json, write_json
from .certificates import make_certificate

SOURCE_BUCKET, RESULT_BUCKET = "src", "res"
REGION = "us-east-1"

_LISTENERS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_ADMIN_PORT_OFFSET = 10_000
"""SeaweedFS's worker expects the admin server's gRPC port at this offset from its HTTP port."""
_OPTIONS = {
    "ip": LOOPBACK,
    "ip.bind": LOOPBACK,
    "admin.ui": "false",
    "webdav": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "master.telemetry": "false",
    "volume.preStopSeconds": "0",
}
_CERTIFICATE, _KEY = "internal.crt", "internal.key"
_PROBE = ".ready"  # an object that exists only while the server starts
_GRPC_COMPONENTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTPS_COMPONENTS = ("master", "volume", "filer", "admin", "client")


class SeaweedFS:
    """The S3 server of a state directory."""

    def __init__(self, state: State, credentials: Credentials) -> None:
        self._state, self._credentials = state, credentials
        self._directory = state.directory / "seaweedfs"
        self._ports_file = self._directory / "ports.json"
        self._ports: dict[str, int] = {}
        self._ports_confirmed = False

    @property
    def endpoint(self) -> str:
        return f"{LOOPBACK}:{self._ports['s3.port']}"

    def prepare(self) -> None:
        self._directory.mkdir(exist_ok=True)
        certificate, key = make_certificate("rollcall-seaweedfs", LOOPBACK)
        (self._directory / _CERTIFICATE).write_bytes(certificate)
        (self._directory / _KEY).touch(mode=0o600)
        (self._directory / _KEY).write_bytes(key)
        (self._directory / "security.toml").write_text(_security_toml(), encoding="utf-8")
        for directory in self._directory.glob("m[0-9]*"):  # a master's state, named after its former port
            shutil.rmtree(directory)
        self._identities = write_identities(self._credentials)

    def command(self) -> Command:
        self.remove_sockets()
        if not self._ports_confirmed:
            self._ports = choose_ports()
        write_json(self._ports_file, self._ports)
        options = _OPTIONS | self._ports | {"dir": self._directory, "s3.config": self._identities}
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        return Command(
            [str(weed), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
            environment={"PATH": os.defpath, "HOME": str(self._directory)},
            directory=self._directory,
            stop_timeout=3,  # sometimes it waits for its own connections; it has written all data by then
        )

    def is_ready(self) -> bool:
        """Create the buckets if they are missing, and return whether the server can store an object.

        The port opens before requests work, and reads work before writes.
        """
        try:
            client = s3_client(self.endpoint, access_keys(self._credentials, "operator"))
            for bucket in (SOURCE_BUCKET, RESULT_BUCKET):
                if not client.bucket_exists(bucket_name=bucket):
                    client.make_bucket(bucket_name=bucket)
            client.put_object(bucket_name=RESULT_BUCKET, object_name=_PROBE, data=BytesIO(b"ready"), length=5)
            client.remove_object(bucket_name=RESULT_BUCKET, object_name=_PROBE)
        except (minio.error.MinioException, urllib3.exceptions.HTTPError):
            return False
        self._ports_confirmed = True
        return True

    def remove_sockets(self) -> None:
        """Remove the sockets that weed creates in /tmp, including those of a process that was killed."""
        was_removed = self._state.was_removed()
        saved_ports = {} if was_removed else read_json(self._ports_file)
        for port in {*self._ports.values(), *saved_ports.values()}:
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - no option of weed changes the directory
                with suppress(FileNotFoundError):
                    socket.unlink()
        if not was_removed:
            self._ports_file.unlink(missing_ok=True)  # another stack may get these ports


def _security_toml() -> str:
    """Return a security.toml that requires the certificate on every port except s3.port; its paths are relative."""
    pair = f'cert = "{_CERTIFICATE}"\nkey = "{_KEY}"\n'
    grpc = f'[grpc]\nca = "{_CERTIFICATE}"\n' + "".join(f"[grpc.{name}]\n{pair}" for name in _GRPC_COMPONENTS)
    https = "".join(f'[https.{name}]\n{pair}ca = "{_CERTIFICATE}"\n' for name in _HTTPS_COMPONENTS)
    return f"{grpc}{https}enabled = true\n"  # belongs to https.client, the last section


def choose_ports() -> dict[str, int]:
    """Choose a free port for each listener."""
    while True:
        ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
        ports["admin.port"] = ports["admin.port.grpc"] - _ADMIN_PORT_OFFSET
        if ports["admin.port"] > 0 and len({*ports.values()}) == len(ports) and is_free(ports["admin.port"]):
            return ports


def s3_client(endpoint: str, keys: Mapping[str, str], connections: int = 1) -> minio.Minio:
    """Return a client with the `accessKey` and `secretKey` in `keys`, and a pool of `connections`."""
    return minio.Minio(
        endpoint=endpoint,
        access_key=keys["accessKey"],
        secret_key=keys["secretKey"],
        secure=False,
        region=REGION,
        http_client=urllib3.PoolManager(retries=False, timeout=30, maxsize=connections),
    )
