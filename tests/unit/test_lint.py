"""ruff check, ruff format and mypy --strict report nothing; mypy also checks the assembled functions."""

import os
import subprocess
import sys

import pytest

from tests.packages import PACKAGES
from tests.stack import ROOT

COMMANDS = {
    "ruff": ["ruff", "check", "--no-cache", "--output-format", "concise", "."],
    "format": ["ruff", "format", "--no-cache", "--check", "."],
    "mypy": [
        "mypy",
        "--cache-dir",
        ".local/mypy",
        *["-p", "infra", "-p", "tests", "-p", "process_data", "-p", "query_data"],
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_linter_the_formatter_and_the_type_checker_report_nothing(name: str) -> None:
    environment = os.environ | {"MYPYPATH": os.pathsep.join([str(ROOT), str(PACKAGES)])}
    command = [sys.executable, "-m", *COMMANDS[name]]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
