"""`secrets` makes every secret of a deployment, keeps what is there and tells nobody."""

import json
import stat
from pathlib import Path

import pytest

from infra.local.cli import main
from infra.local.config.stack import read_stack
from tests.stack import ROOT

OPERATORS = {
    "operator-s3-access-key", "operator-s3-secret-key", "operator-postgres-password", "seaweedfs.json",
    "rollcall-backup-postgres-password",
}  # fmt: skip


def make(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; returns what it says."""
    assert main(["secrets", str(directory)]) == 0
    return capsys.readouterr().out


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_there_is_a_file_for_every_secret_of_stack_yml_and_the_operators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = make(tmp_path / "made/here", capsys)
    named = {secret for function in read_stack(ROOT, {}).functions for secret in function.secrets}
    assert len(named) == 7
    assert contents(tmp_path / "made/here").keys() == named | OPERATORS
    for name in named | OPERATORS:
        assert name in said


def test_a_secret_is_one_line_of_its_own_that_only_its_owner_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "made"
    said = make(directory, capsys)
    made = contents(directory)
    del made["seaweedfs.json"]
    for value in made.values():
        assert value == value.strip()
        assert len(value) == 40
        assert value not in said
    assert len(set(made.values())) == len(made)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_what_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "operator-postgres-password").write_text("chosen by hand")
    assert "operator-postgres-password" not in make(tmp_path, capsys)
    before = contents(tmp_path)
    assert before["operator-postgres-password"] == "chosen by hand"
    assert make(tmp_path, capsys) == f"{tmp_path} is complete.\n"
    assert contents(tmp_path) == before


def test_the_identities_have_the_keys_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, capsys)
    (tmp_path / "rollcall-query-s3-secret-key").write_text("another")
    make(tmp_path, capsys)
    identities = json.loads((tmp_path / "seaweedfs.json").read_text())["identities"]
    for identity in identities:
        (keys,) = identity["credentials"]
        for key, name in (("accessKey", "access-key"), ("secretKey", "secret-key")):
            assert keys[key] == (tmp_path / f"{identity['name']}-s3-{name}").read_text()


def test_a_directory_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["secrets", str(tmp_path / "file")]) == 1
    assert f"{tmp_path / 'file'} can't be used" in capsys.readouterr().err
