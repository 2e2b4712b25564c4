"""A virtual environment made once from locked requirements, and a Python program run in it.

    python3 infra/local/environment.py REQUIREMENTS.txt... -- ARGUMENTS...

runs `python ARGUMENTS...` with the packages installed and the project on its path. The files are locks:
every package is there, with the hashes of what may be installed; tests/lock.py writes them. The environment
is keyed by their content and by this Python, so it is made again only when one of them changes.
Standard library only: this runs before anything is installed.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".local/environments"

_COMPLETE = "complete"
_DOWNLOADING = re.compile(r"\s*Downloading (\S+?)-(\d[^-]*)-\S+ \(([^)]*)\)")
_NO_WHEEL = re.compile(r"No matching distribution found for (\S+)")
_MANY = 15
"""Lines of pip's output that are shown when it fails."""


def run(requirements: list[Path], arguments: list[str]) -> None:
    """Replace this process by the environment's Python. SystemExit says why when that can't be."""
    _check_platform()
    python = prepare(requirements)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve(python, [str(python), *arguments], variables)  # noqa: S606 - no shell is wanted


def _check_platform() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older one gets here too
        sys.exit(f"Rollcall needs Python 3.11 or newer; this is {platform.python_version()} ({sys.executable})")
    if sys.platform != "linux" and sys.platform != "darwin":
        sys.exit(_unsupported(f"the local stack runs on Linux and macOS; this is {platform.system()}"))


def _unsupported(what: str) -> str:
    return (
        f"{what}.\nRollcall's functions run anywhere with servers of your own: the settings s3_endpoint, "
        "postgres_host and their kin point at them; infra/README.md lists every one."
    )


def prepare(requirements: list[Path]) -> Path:
    """The environment's Python, made first if need be. Safe against others at once and a kill half way."""
    if python := find(requirements):
        return python
    with _locked():
        if not find(requirements):
            _make(ENVIRONMENTS / _key(requirements), requirements)
    return ENVIRONMENTS / _key(requirements) / "bin/python"


def find(requirements: list[Path]) -> Path | None:
    """The environment's Python, if it is there."""
    directory = ENVIRONMENTS / _key(requirements)
    return directory / "bin/python" if (directory / _COMPLETE).exists() else None


def _key(requirements: Iterable[Path]) -> str:
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {platform.platform()}".encode())
    for path in requirements:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            sys.exit(f"{path} can't be read: {error.strerror}")
    return digest.hexdigest()[:16]


@contextmanager
def _locked() -> Iterator[None]:
    import fcntl  # not on every platform: _check_platform goes first

    try:
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        file = (ENVIRONMENTS / "lock").open("w")
    except OSError as error:
        sys.exit(f"{ENVIRONMENTS} can't be written ({error.strerror}): Rollcall keeps its packages there")
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another run that is setting up Rollcall's packages …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(directory: Path, requirements: list[Path]) -> None:
    _say("Setting up Rollcall's packages, once: 100 MB to download, and as much again for the tests …")
    shutil.rmtree(directory, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", directory], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if made.returncode:
        sys.exit(f"`python -m venv` failed (on Debian and Ubuntu it needs the package python3-venv):\n{made.stdout}")
    _install(directory / "bin/python", requirements)
    (directory / _COMPLETE).touch()


def _install(python: Path, requirements: list[Path]) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    options += ["--only-binary=:all:", "--require-hashes"]
    files = [word for path in requirements for word in ("-r", str(path))]
    output: list[str] = []
    with subprocess.Popen(
        [python, "-m", "pip", "install", *options, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        for line in pip.stdout or ():
            output.append(line)
            if package := _DOWNLOADING.match(line):
                _say("  {} {} ({})".format(*package.groups()))
            elif line.startswith("Installing collected packages"):
                _say("  installing …")
    if pip.returncode:
        _explain("".join(output))


def _explain(output: str) -> None:
    if missing := _NO_WHEEL.search(output):
        here = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        sys.stderr.write("".join(output.splitlines(keepends=True)[-_MANY:]))
        sys.exit(_unsupported(f"pip finds no package {missing[1]} for this machine ({here})"))
    sys.exit("pip could not install the packages:\n" + "\n".join(output.splitlines()[-_MANY:]))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: list[str]) -> None:
    if "--" not in words or words.index("--") == 0:
        sys.exit("usage: environment.py REQUIREMENTS.txt... -- ARGUMENTS...")
    end = words.index("--")
    run([Path(word) for word in words[:end]], words[end + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
