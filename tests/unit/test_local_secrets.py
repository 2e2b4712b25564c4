"""`secrets` creates every secret of a deployment, keeps existing ones and prints no values."""

import json
import stat
from pathlib import Path

import pytest

from infra.local.cli import main
from infra.local.config.stack import read_stack
from tests.stack import ROOT

OPERATOR_SECRETS = {
    "operator-s3-access-key", "operator-s3-secret-key", "operator-postgres-password", "seaweedfs.json",
    "rollcall-backup-postgres-password",
}  # fmt: skip


def create(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command and return its output."""
    assert main(["secrets", str(directory)]) == 0
    return capsys.readouterr().out


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_every_secret_of_stack_yml_and_the_operator_gets_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = create(tmp_path / "new/directory", capsys)
    names = {secret for function in read_stack(ROOT, {}).functions for secret in function.secrets}
    assert len(names) == 7
    assert contents(tmp_path / "new/directory").keys() == names | OPERATOR_SECRETS
    for name in names | OPERATOR_SECRETS:
        assert name in output


def test_each_secret_is_unique_and_accessible_only_to_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "new"
    output = create(directory, capsys)
    secrets = contents(directory)
    del secrets["seaweedfs.json"]
    for value in secrets.values():
        assert value == value.strip()
        assert len(value) == 40
        assert value not in output
    assert len(set(secrets.values())) == len(secrets)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_existing_secrets_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "operator-postgres-password").write_text("chosen by hand")
    assert "operator-postgres-password" not in create(tmp_path, capsys)
    before = contents(tmp_path)
    assert before["operator-postgres-password"] == "chosen by hand"
    assert create(tmp_path, capsys) == f"{tmp_path} is complete.\n"
    assert contents(tmp_path) == before


def test_the_seaweedfs_identities_use_the_keys_in_the_same_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path, capsys)
    (tmp_path / "rollcall-query-s3-secret-key").write_text("another")
    create(tmp_path, capsys)
    identities = json.loads((tmp_path / "seaweedfs.json").read_text())["identities"]
    for identity in identities:
        (keys,) = identity["credentials"]
        for key, name in (("accessKey", "access-key"), ("secretKey", "secret-key")):
            assert keys[key] == (tmp_path / f"{identity['name']}-s3-{name}").read_text()


def test_a_path_that_is_not_a_directory_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["secrets", str(tmp_path / "file")]) == 1
    assert f"{tmp_path / 'file'} cannot be used" in capsys.readouterr().err
