"""The commands in the README print the output shown there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack

URL = "http://127.0.0.1:8080"
PYTHON = getattr(sys, "_base_executable", sys.executable)  # the system's Python instead of the test environment's


def examples() -> list[tuple[str, str]]:
    """Return every command in the README's console blocks with its output."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def pattern(output: str) -> str:
    """Return the output as a regular expression.

    A line that is only `…` matches any lines; a `…` within a line matches any text.
    """
    lines = ["(?s:.*)" if line == "…" else re.escape(line).replace("…", ".*") for line in output.split("\n")]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that looks like a clone of the repository, with a separate stack."""
    directory = tmp_path_factory.mktemp("checkout")
    (directory / "infra").symlink_to(ROOT / "infra")
    yield directory
    Stack(directory / "state").remove()


def test_the_readme_has_examples_of_up_upload_and_both_functions() -> None:
    commands = " ".join(command for command, _ in examples())
    for command in (r"infra/local up\b", r"infra/local upload\b", "process-data", "query-data"):
        assert re.search(command, commands)


def test_every_example_prints_the_output_shown(directory: Path) -> None:
    state = directory / "state"
    for command, output in examples():
        command += " --detach --port 0" if command.endswith(" up") else ""
        command = re.sub(r"(infra/local \w+)", rf"\1 --state {state}", command)
        if URL in command:
            command = command.replace(URL, Stack(state).url)
        command = command.replace("python3", str(PYTHON)).replace("/tmp/users", str(directory / "users"))
        result = subprocess.run(
            ["bash", "-c", command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        assert re.fullmatch(pattern(output), result.stdout), f"{command}\n{result.stdout}"
