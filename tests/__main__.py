"""Run the tests: `python3 tests [pytest arguments]`. It sets up its own environment, as `infra/local` does."""

from __future__ import annotations  # so that older versions of Python get to the message that names theirs

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

DEFAULTS = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Three processes, each with its own stack: tests mostly wait for servers, so they gain from running in parallel.

With arguments, one process runs them, for readable output.
"""


def main(arguments: list[str]) -> int:
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "pytest", *(arguments or DEFAULTS)]
    return subprocess.call([str(argument) for argument in command], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
