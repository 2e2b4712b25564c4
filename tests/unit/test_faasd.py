"""The services for faasd use only keys that it supports, and secrets that `infra/local secrets` or faasd creates."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.cli import main
from tests.stack import ROOT

FAASD = ROOT / "infra/faasd"
COMPOSE = FAASD / "docker-compose.rollcall.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]

# The keys of a service that faasd's ParseCompose reads (pkg/supervisor.go); it silently ignores all others.
KEYS = {"image", "command", "environment", "volumes", "user", "cap_add", "depends_on", "ports"}

FAASD_COMPOSE = """\
version: "3.7"
services:

  gateway:
    image: ghcr.io/openfaas/gateway:0
    volumes:
      - type: bind
        source: ./secrets/basic-auth-password
        target: /run/secrets/basic-auth-password
    ports:
       - "8080:8080"
"""


def mounts_of(name: str) -> list[dict[str, Any]]:
    return list(SERVICES[name].get("volumes", []))


each_service = pytest.mark.parametrize("name", SERVICES)


@each_service
def test_faasd_supports_every_key(name: str) -> None:
    service = SERVICES[name]
    assert service.keys() <= KEYS
    assert all(isinstance(argument, str) for argument in service.get("command", []))
    for mount in mounts_of(name):
        assert mount.keys() <= {"type", "source", "target", "read_only"}
        assert mount["type"] == "bind"
        assert mount["source"].startswith("./")
    assert set(service.get("depends_on", [])) <= SERVICES.keys() | {"gateway"}


def test_the_compose_file_has_no_placeholders() -> None:
    assert "$" not in COMPOSE.read_text(encoding="utf-8")


@each_service
def test_ports_are_published_only_on_the_bridge(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"10\.62\.0\.1:(\d+):\1", port)


def test_the_backends_use_the_ports_in_the_guide() -> None:
    guide = (FAASD / "README.md").read_text(encoding="utf-8")
    assert "POSTGRES_HOST=10.62.0.1 S3_ENDPOINT=10.62.0.1:8333" in guide
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["10.62.0.1:5432:5432", "10.62.0.1:8333:8333"]


def test_the_services_can_be_appended_to_faasds_own() -> None:
    """The guide appends everything after the line `services:`."""
    guide = (FAASD / "README.md").read_text(encoding="utf-8")
    assert "sed '1,/^services:/d' infra/faasd/docker-compose.rollcall.yaml" in guide
    _, services = COMPOSE.read_text(encoding="utf-8").split("\nservices:\n")
    merged = yaml.safe_load(FAASD_COMPOSE + services)["services"]
    assert list(merged) == ["gateway", *SERVICES]
    assert {name: merged[name] for name in SERVICES} == SERVICES


def secret_mounts() -> set[str]:
    return {
        mount["source"].removeprefix("./secrets/")
        for name in SERVICES
        for mount in mounts_of(name)
        if mount["source"].startswith("./secrets/")
    }


def test_every_secret_is_created_by_the_secrets_command_or_faasd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["secrets", str(tmp_path)]) == 0
    capsys.readouterr()
    created = {f"rollcall/{path.name}" for path in tmp_path.iterdir()}
    assert secret_mounts() <= created | {"basic-auth-user", "basic-auth-password"}
    assert {f"rollcall/{name}" for name in ("seaweedfs.json", "operator-postgres-password")} <= secret_mounts()


@each_service
def test_secrets_in_the_environment_are_paths_of_mounted_files(name: str) -> None:
    for line in SERVICES[name].get("environment", []):
        variable, value = line.split("=", 1)
        if re.search("PASSWORD|SECRET|KEY|TOKEN", variable):
            assert value == "/dev/null" or variable.endswith("_FILE")
            assert value == "/dev/null" or value in {mount["target"] for mount in mounts_of(name)}


@each_service
def test_only_data_is_mounted_writable(name: str) -> None:
    for mount in mounts_of(name):
        is_data = mount["target"] in ("/var/lib/postgresql", "/data")
        assert mount.get("read_only", False) is not is_data, mount


def test_postgres_mounts_its_setup_script_and_passwords() -> None:
    targets = {mount["target"] for mount in mounts_of("postgres")}
    assert "/rollcall" in targets
    for role in ("process", "query", "backup"):
        assert f"/run/secrets/rollcall-{role}-postgres-password" in targets
    assert {"PGUSER=postgres", "PGDATABASE=rollcall"} < set(SERVICES["postgres"]["environment"])
    guide = (FAASD / "README.md").read_text(encoding="utf-8")
    assert "infra/postgres/. /var/lib/faasd/rollcall/setup/" in guide
    assert "postgres env SECRETS=/run/secrets sh /rollcall/setup.sh" in guide


@each_service
def test_the_image_has_a_fixed_tag_and_is_the_same_as_for_kubernetes(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.search(r":v?\d+\.\d+", image)
    manifests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "infra/kubernetes").rglob("*.yaml"))
    images = re.findall(r"^ +(?:- )?image: (\S+)", manifests, re.MULTILINE)
    assert re.sub(r"^docker\.io/(library/)?", "", image) in images
