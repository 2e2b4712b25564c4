"""Lock the requirements: `python3 tests/lock.py [--upgrade]`, after any change of a requirements.in.

Each requirements.txt is written from the requirements.in beside it: every package that is installed, the
indirect ones included, with the hashes of all its files, for every platform and every Python from 3.11 on.
What is locked stays as it is unless requirements.in asks for something else; --upgrade takes the newest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DIRECTORIES = ("functions/process-data", "functions/query-data", "infra/local", "tests", "tests/fuzz")
"""Those of the requirements; each keeps to the versions of the ones before it."""

APART = ("tests/benchmarks/peers",)
"""Those of environments that have nothing to do with the others."""

_COMPILE = [
    "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
    "--fork-strategy", "fewest", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
    "--custom-compile-command", "python3 tests/lock.py",
]  # fmt: skip


def prepared(arguments: list[str]) -> int:
    """Run this again where uv is; once, as the environment depends on the locks that are about to change."""
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "tests.lock", *arguments]
    return subprocess.call([str(word) for word in command], cwd=ROOT)


def write_locks(arguments: list[str]) -> int:
    constraints: list[str] = []
    for directory in (*APART, *DIRECTORIES):
        lock = f"{directory}/requirements.txt"
        words = [f"{directory}/requirements.in", "--output-file", lock, *constraints, *arguments]
        if status := subprocess.call([sys.executable, *_COMPILE, *words], cwd=ROOT, stdout=subprocess.DEVNULL):
            return status
        if directory not in APART:
            constraints += ["--constraint", lock]
    return 0


if __name__ == "__main__":
    sys.exit(write_locks(sys.argv[1:]) if __package__ else prepared(sys.argv[1:]))
