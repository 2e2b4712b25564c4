"""The S3 server: SeaweedFS in one process, on loopback, with an identity for each that needs one.

Its master, volume, filer and admin servers know no identities: whoever reached them could read and write every
object. All of them therefore speak TLS and require the certificate of this server, which no one else has.
"""

import json
import os
import shutil
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import minio
import minio.error
import urllib3

from .certificates import make_certificate
from .credentials import Credentials
from .ports import LOOPBACK, free_ports, is_free
from .processes import Command
from .state import State

SOURCE_BUCKET, RESULT_BUCKET = "src", "res"
REGION = "us-east-1"
POLICIES = Path(__file__).resolve().parents[1] / "s3"
"""Policies of the functions' keys, `<name>.json`, and SeaweedFS's identities, which name them.

The keys of an identity are the secrets `<identity>-s3-access-key` and `-secret-key`.
"""

_LISTENERS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_ADMIN_DISTANCE = 10_000
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
_GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTPS = ("master", "volume", "filer", "admin", "client")


class SeaweedFS:
    """The server of one state directory."""

    def __init__(self, state: State, credentials: Credentials) -> None:
        self._credentials = credentials
        self._directory = state.directory / "seaweedfs"
        self._note = self._directory / "ports.json"
        self._ports: dict[str, int] = {}
        self._chosen = False

    @property
    def endpoint(self) -> str:
        return f"{LOOPBACK}:{self._ports['s3.port']}"

    def prepare(self) -> None:
        self._directory.mkdir(exist_ok=True)
        certificate, key = make_certificate("rollcall-seaweedfs", LOOPBACK)
        (self._directory / _CERTIFICATE).write_bytes(certificate)
        (self._directory / _KEY).touch(mode=0o600)
        (self._directory / _KEY).write_bytes(key)
        (self._directory / "security.toml").write_text(_security(), encoding="utf-8")
        for old in self._directory.glob("m[0-9]*"):  # a master's own state, named by a port it no longer has
            shutil.rmtree(old)
        self._identities = write_identities(self._credentials)

    def command(self) -> Command:
        self.remove_sockets()
        if not self._chosen:
            self._ports = _choose_ports()
            self._note.write_text(json.dumps(self._ports), encoding="utf-8")
        options = _OPTIONS | self._ports | {"dir": self._directory, "s3.config": self._identities}
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        return Command(
            [str(weed), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
            environment={"PATH": os.defpath, "HOME": str(self._directory)},
            directory=self._directory,
            patience=10,
        )

    def is_ready(self) -> bool:
        """It answers on its port before it can serve: only a request that goes all the way counts."""
        try:
            client = s3_client(self.endpoint, _keys(self._credentials, "operator"))
            for bucket in (SOURCE_BUCKET, RESULT_BUCKET):
                if not client.bucket_exists(bucket_name=bucket):
                    client.make_bucket(bucket_name=bucket)
        except (minio.error.MinioException, urllib3.exceptions.HTTPError):
            return False
        self._chosen = True
        return True

    def remove_sockets(self) -> None:
        """Remove the sockets that it leaves in /tmp, whatever it is told; also those of a run that was killed."""
        ports = json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else {}
        for port in ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - its own choice
                with suppress(FileNotFoundError):
                    socket.unlink()


def write_identities(credentials: Credentials) -> Path:
    """Write the identities with their keys and policies, as weed's -s3.config wants them; returns the file."""
    document = json.loads((POLICIES / "seaweedfs.json").read_text(encoding="utf-8"))
    for identity in document["identities"]:
        identity["credentials"] = [_keys(credentials, identity["name"])]
    names = [name for identity in document["identities"] for name in identity.get("policyNames", [])]
    document["policies"] = [
        {"name": name, "content": (POLICIES / f"{name}.json").read_text(encoding="utf-8")} for name in names
    ]
    return credentials.write("seaweedfs.json", json.dumps(document))


def _security() -> str:
    """A security.toml that requires the certificate on every port but that of S3; paths are relative to it."""
    pair = f'cert = "{_CERTIFICATE}"\nkey = "{_KEY}"\n'
    grpc = f'[grpc]\nca = "{_CERTIFICATE}"\n' + "".join(f"[grpc.{part}]\n{pair}" for part in _GRPC)
    https = "".join(f'[https.{part}]\n{pair}ca = "{_CERTIFICATE}"\n' for part in _HTTPS)
    return f"{grpc}{https}enabled = true\n"  # of https.client, the last


def _keys(credentials: Credentials, identity: str) -> dict[str, str]:
    return {
        "accessKey": credentials.get(f"{identity}-s3-access-key"),
        "secretKey": credentials.get(f"{identity}-s3-secret-key"),
    }


def _choose_ports() -> dict[str, int]:
    """A free port for each listener. Its worker looks for the admin server's gRPC at a fixed distance."""
    while True:
        ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
        ports["admin.port"] = ports["admin.port.grpc"] - _ADMIN_DISTANCE
        if is_free(ports["admin.port"]):
            return ports


def s3_client(endpoint: str, keys: Mapping[str, str], connections: int = 1) -> minio.Minio:
    """A client with `accessKey` and `secretKey`, for so many threads."""
    return minio.Minio(
        endpoint=endpoint,
        access_key=keys["accessKey"],
        secret_key=keys["secretKey"],
        secure=False,
        region=REGION,
        http_client=urllib3.PoolManager(retries=False, timeout=30, maxsize=connections),
    )
