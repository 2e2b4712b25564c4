"""Every package that is installed is locked to a version and the hashes of its files."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lock import DIRECTORIES, INDEPENDENT
from tests.stack import ROOT

INSTALLED = [directory for directory in DIRECTORIES if directory != "tests/fuzz"]
"""The directories whose packages are installed in the test environment."""

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def lines(path: Path) -> list[str]:
    """Return the lines without comments. Continued lines are joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]


def read_input(path: Path) -> list[Requirement]:
    """Return the requirements of a requirements.in and of the files it includes."""
    requirements = []
    for line in lines(path):
        if line.startswith("-r "):
            requirements += read_input(path.parent / line.removeprefix("-r "))
        else:
            requirements.append(Requirement(line))
    return requirements


def read_lock(path: Path) -> dict[str, Requirement]:
    """Return the requirements, by name, that a requirements.txt installs on this machine."""
    requirements = [Requirement(line.partition(" --hash")[0]) for line in lines(path)]
    return {
        canonicalize_name(requirement.name): requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    return specifier.version


def dependencies(requirement: Requirement) -> list[Requirement]:
    """Return the dependencies of an installed package on this machine, including those of the requested extras."""
    extras = ("", *requirement.extras)
    return [
        dependency
        for dependency in (Requirement(text) for text in requires(requirement.name) or ())
        if dependency.marker is None or any(dependency.marker.evaluate({"extra": extra}) for extra in extras)
    ]


@pytest.mark.parametrize("directory", [*DIRECTORIES, *INDEPENDENT])
def test_every_locked_requirement_has_a_version_hashes_and_no_index(directory: str) -> None:
    path = ROOT / directory / "requirements.txt"
    for line in lines(path):
        assert HASH.search(line), line
        version(Requirement(line.partition(" --hash")[0]))
        assert "--" not in HASH.sub("", line).partition("==")[2], line  # no other option, such as --index-url
    assert "://" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("directory", INSTALLED)
def test_a_lock_satisfies_its_input_and_all_dependencies(directory: str) -> None:
    lock = read_lock(ROOT / directory / "requirements.txt")
    pending, seen = read_input(ROOT / directory / "requirements.in"), set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{requirement} is not locked: run python3 tests/lock.py"
        assert requirement.specifier.contains(version(lock[name]), prereleases=True), (
            f"{requirement}: run python3 tests/lock.py"
        )
        if (name, *requirement.extras) not in seen:
            seen.add((name, *requirement.extras))
            pending += dependencies(requirement)
    assert lock.keys() == {name for name, *_ in seen}, "unused requirements are locked: run python3 tests/lock.py"


def test_all_locks_except_the_independent_ones_have_the_same_versions() -> None:
    versions: dict[str, str] = {}
    for directory in DIRECTORIES:
        for name, requirement in read_lock(ROOT / directory / "requirements.txt").items():
            assert versions.setdefault(name, version(requirement)) == version(requirement), name
