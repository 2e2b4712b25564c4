"""Install the tests' packages under `.local/` and run the tests: `python3 tests [pytest arguments]`."""

from __future__ import annotations  # older versions of Python must get as far as environment.py, which rejects them

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

DEFAULTS = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
"""pytest's arguments if none are given: four processes, each with its own stack, because most tests wait for servers.

With other arguments a single process runs the tests, and its output is easier to read.
"""


def main(arguments: list[str]) -> int:
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "pytest", *(arguments or DEFAULTS)]
    return subprocess.call([str(argument) for argument in command], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
