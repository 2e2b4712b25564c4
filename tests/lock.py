"""Lock the requirements: `python3 tests/lock.py [--upgrade]`, after any change to a requirements.in.

Each requirements.txt is written from the requirements.in in its directory: every direct and transitive package, with
the hashes of all its files, for all platforms and Python 3.11 or later. Locked versions stay unless requirements.in
requires a change; --upgrade takes the newest allowed ones.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DIRECTORIES = ("functions/process-data", "functions/query-data", "infra/local", "tests", "tests/fuzz")
"""Directories with requirements; each uses the versions locked by the ones before it."""

INDEPENDENT = ("tests/benchmarks/peers",)
"""Directories whose requirements are locked independently, for environments of their own."""

_COMPILE = [
    "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
    "--fork-strategy", "fewest", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
    "--custom-compile-command", "python3 tests/lock.py",
]  # fmt: skip


def run_in_environment(arguments: list[str]) -> int:
    """Run this module again in the tests' environment, which has uv."""
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "tests.lock", *arguments]
    return subprocess.call([str(argument) for argument in command], cwd=ROOT)


def write_locks(arguments: list[str]) -> int:
    constraints: list[str] = []
    for directory in (*INDEPENDENT, *DIRECTORIES):
        lock = f"{directory}/requirements.txt"
        options = [f"{directory}/requirements.in", "--output-file", lock, *constraints, *arguments]
        if status := subprocess.call([sys.executable, *_COMPILE, *options], cwd=ROOT, stdout=subprocess.DEVNULL):
            return status
        if directory not in INDEPENDENT:
            constraints += ["--constraint", lock]
    return 0


if __name__ == "__main__":
    sys.exit(write_locks(sys.argv[1:]) if __package__ else run_in_environment(sys.argv[1:]))
