"""Run every test: `python3 tests [pytest arguments]`. It sets up all it needs, as `infra/local` does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

EVERYTHING = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Two processes, each with a stack of its own; with arguments there is one, which is easier to watch."""


def main(arguments: list[str]) -> int:
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "pytest", *(arguments or EVERYTHING)]
    return subprocess.call([str(word) for word in command], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
