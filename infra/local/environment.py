"""Create a virtual environment from locked requirements, and run a Python program in it.

    python3 infra/local/environment.py REQUIREMENTS.txt... -- ARGUMENTS...

runs `python ARGUMENTS...` with the packages installed and the project on its path. The requirements are lock files,
written by tests/lock.py: they list all packages, with hashes. The environment's name is a hash of these files, this
Python and the platform, so a new environment is created only when one of them changes. This module uses only the
standard library, because it runs before anything is installed.
"""

from __future__ import annotations  # older versions of Python must get as far as _check_platform

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".local/environments"

_COMPLETE_MARKER = "complete"
_DOWNLOADING = re.compile(r"\s*Downloading (\S+?)-(\d[^-]*)-\S+ \(([^)]*)\)")
_UNREACHABLE = re.compile(r"Retry\(total=0,.* after connection broken by")  # the warning before pip's last retry
_NO_WHEEL = re.compile(r"No matching distribution found for (\S+)")
_TAIL_LINES = 15
"""The number of lines at the end of pip's output that are printed when it fails."""


def run(requirements: list[Path], arguments: list[str]) -> None:
    """Replace this process with the environment's Python. Raise SystemExit with a message if that fails."""
    _check_platform()
    python = prepare(requirements)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve(python, [str(python), *arguments], variables)  # noqa: S606 - no shell is needed


def _check_platform() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"Rollcall requires Python 3.11 or newer; this is {platform.python_version()} ({sys.executable})")
    if sys.platform != "linux" and sys.platform != "darwin":
        sys.exit(_unsupported(f"the local stack runs on Linux and macOS; this is {platform.system()}"))


def _unsupported(problem: str) -> str:
    return (
        f"{problem}.\nRollcall's functions also run with your own servers: set s3_endpoint, postgres_host and the "
        "other settings that infra/README.md lists."
    )


def prepare(requirements: list[Path]) -> Path:
    """Return the environment's Python. Create the environment unless it exists; an incomplete one is replaced."""
    if python := find(requirements):
        return python
    with _locked() as lock:
        if not find(requirements):
            _create(ENVIRONMENTS / _key(requirements), requirements, lock)
    return ENVIRONMENTS / _key(requirements) / "bin/python"


def find(requirements: list[Path]) -> Path | None:
    """Return the environment's Python, if the environment exists."""
    directory = ENVIRONMENTS / _key(requirements)
    return directory / "bin/python" if (directory / _COMPLETE_MARKER).exists() else None


def _key(requirements: Iterable[Path]) -> str:
    # platform.platform() would add the kernel's release, on which wheels do not depend
    target = f"{sysconfig.get_platform()} {platform.libc_ver()}"
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {target}".encode())
    for path in requirements:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            sys.exit(f"{path} cannot be read: {error.strerror}")
    return digest.hexdigest()[:16]


@contextmanager
def _locked() -> Iterator[int]:
    """Hold the lock. A child process that inherits the yielded descriptor keeps it, even if this process is killed."""
    import fcntl  # does not exist on Windows; _check_platform has already run

    try:
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        file = (ENVIRONMENTS / "lock").open("w")
    except OSError as error:
        sys.exit(f"{ENVIRONMENTS} cannot be written ({error.strerror}): Rollcall installs its packages there")
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another process that is installing Rollcall's packages …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _create(directory: Path, requirements: list[Path], lock: int) -> None:
    _say("Installing packages (100 MB; for the tests, 200 MB) …")
    shutil.rmtree(directory, ignore_errors=True)
    result = subprocess.run(
        [sys.executable, "-m", "venv", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[lock],
    )
    if result.returncode:
        sys.exit(f"`python -m venv` failed (Debian and Ubuntu require the package python3-venv):\n{result.stdout}")
    _install(directory / "bin/python", requirements, lock)
    (directory / _COMPLETE_MARKER).touch()


def _install(python: Path, requirements: list[Path], lock: int) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    options += ["--only-binary=:all:", "--require-hashes"]
    files = [argument for path in requirements for argument in ("-r", str(path))]
    output: list[str] = []
    with subprocess.Popen(
        [python, "-m", "pip", "install", *options, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[lock],
    ) as pip:
        for line in pip.stdout or ():
            output.append(line)
            if package := _DOWNLOADING.match(line):
                _say("  {} {} ({})".format(*package.groups()))
            elif line.startswith("Installing collected packages"):
                _say("  installing …")
    if pip.returncode:
        _exit_with_explanation("".join(output))


def _exit_with_explanation(output: str) -> None:
    tail = "\n".join(output.splitlines()[-_TAIL_LINES:])
    if _UNREACHABLE.search(output):  # pip then also reports that it found no package
        sys.exit(f"pip cannot reach the package index:\n{tail}")
    if missing := _NO_WHEEL.search(output):
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        _say(tail)
        sys.exit(_unsupported(f"pip found no package {missing[1]} for this machine ({machine})"))
    sys.exit(f"pip could not install the packages:\n{tail}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    if "--" not in arguments or arguments.index("--") == 0:
        sys.exit("usage: environment.py REQUIREMENTS.txt... -- ARGUMENTS...")
    separator = arguments.index("--")
    run([Path(path) for path in arguments[:separator]], arguments[separator + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
