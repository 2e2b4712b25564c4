"""The accounts of the servers: PostgreSQL's login roles and the S3 server's identities, with their secrets."""

import json
from pathlib import Path

from .credentials import Credentials

SUPERUSER = "postgres"
PASSWORD_SECRETS = {
    SUPERUSER: "operator-postgres-password",
    "rollcall_process": "rollcall-process-postgres-password",
    "rollcall_query": "rollcall-query-postgres-password",
    "rollcall_backup": "rollcall-backup-postgres-password",
}
"""The name of the secret that holds each role's password."""

POLICIES = Path(__file__).resolve().parents[2] / "s3"
"""The directory of the S3 policies, `<name>.json`, and of `seaweedfs.json`, the identities that refer to them."""


def access_keys(credentials: Credentials, identity: str) -> dict[str, str]:
    """Return an S3 identity's keys as `accessKey` and `secretKey`."""
    return {
        "accessKey": credentials.get(f"{identity}-s3-access-key"),
        "secretKey": credentials.get(f"{identity}-s3-secret-key"),
    }


def write_identities(credentials: Credentials) -> Path:
    """Write the identities with their keys and policies, in the format of weed's -s3.config; return the path."""
    document = json.loads((POLICIES / "seaweedfs.json").read_text(encoding="utf-8"))
    for identity in document["identities"]:
        identity["credentials"] = [access_keys(credentials, identity["name"])]
    names = [name for identity in document["identities"] for name in identity.get("policyNames", [])]
    document["policies"] = [
        {"name": name, "content": (POLICIES / f"{name}.json").read_text(encoding="utf-8")} for name in names
    ]
    return credentials.write("seaweedfs.json", json.dumps(document))
