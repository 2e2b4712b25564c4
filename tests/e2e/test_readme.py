"""The README's commands do what it shows, from the first one on."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack

URL = "http://127.0.0.1:8080"
PYTHON = getattr(sys, "_base_executable", sys.executable)  # a newcomer's: not that of the tests' environment


def examples() -> list[tuple[str, str]]:
    """Every command of the README's console blocks with the output shown under it."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def pattern(output: str) -> str:
    """What is shown as a regular expression: … stands for anything."""
    return re.escape(output).replace("…", ".*")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that looks like the checkout, with a stack of its own under it."""
    directory = tmp_path_factory.mktemp("checkout")
    (directory / "infra").symlink_to(ROOT / "infra")
    yield directory
    Stack(directory / "state").remove()


def test_the_readme_has_examples_of_everything() -> None:
    commands = " ".join(command for command, _ in examples())
    for word in ("infra/local up", "infra/local upload", "process-data", "query-data"):
        assert word in commands


def test_every_example_gives_what_it_shows(directory: Path) -> None:
    state = directory / "state"
    for command, output in examples():
        command += " --detach --port 0" if command.endswith(" up") else ""
        command = re.sub(r"(infra/local \w+)", rf"\1 --state {state}", command)
        if URL in command:
            command = command.replace(URL, Stack(state).url)
        command = command.replace("python3", str(PYTHON))
        done = subprocess.run(
            ["bash", "-c", command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert re.fullmatch(pattern(output), done.stdout, re.DOTALL), f"{command}\n{done.stdout}"
