"""Every package that is installed is locked: its version, and the hashes of its files."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lock import APART, DIRECTORIES
from tests.stack import ROOT

INSTALLED = [directory for directory in DIRECTORIES if directory != "tests/fuzz"]
"""The directories whose packages are installed where the tests run."""

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def lines(path: Path) -> list[str]:
    """Without comments, continued lines joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]


def wanted(path: Path) -> list[Requirement]:
    """What a requirements.in asks for, what it includes too."""
    found = []
    for line in lines(path):
        if line.startswith("-r "):
            found += wanted(path.parent / line.removeprefix("-r "))
        else:
            found.append(Requirement(line))
    return found


def locked(path: Path) -> dict[str, Requirement]:
    """What a requirements.txt installs here, by name."""
    found = [Requirement(line.partition(" --hash")[0]) for line in lines(path)]
    return {canonicalize_name(one.name): one for one in found if one.marker is None or one.marker.evaluate()}


def version(requirement: Requirement) -> str:
    (only,) = requirement.specifier
    assert only.operator == "==", requirement
    return only.version


def dependencies(requirement: Requirement) -> list[Requirement]:
    """What an installed package needs on this machine, with the extras that are asked for."""
    found = [Requirement(text) for text in requires(requirement.name) or ()]
    extras = ("", *requirement.extras)
    return [one for one in found if one.marker is None or any(one.marker.evaluate({"extra": it}) for it in extras)]


@pytest.mark.parametrize("directory", [*DIRECTORIES, *APART])
def test_a_lock_has_a_version_and_hashes_on_every_line_and_names_no_registry(directory: str) -> None:
    path = ROOT / directory / "requirements.txt"
    for line in lines(path):
        assert HASH.search(line), line
        version(Requirement(line.partition(" --hash")[0]))
        assert not HASH.sub("", line).partition("==")[2].count("--"), line
    assert "://" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("directory", INSTALLED)
def test_a_lock_satisfies_its_input_and_the_packages_in_it(directory: str) -> None:
    lock = locked(ROOT / directory / "requirements.txt")
    needed, seen = wanted(ROOT / directory / "requirements.in"), set()
    while needed:
        one = needed.pop()
        name = canonicalize_name(one.name)
        assert name in lock, f"{one} is not locked: run python3 tests/lock.py"
        assert one.specifier.contains(version(lock[name]), prereleases=True), f"{one}: run python3 tests/lock.py"
        if (name, *one.extras) not in seen:
            seen.add((name, *one.extras))
            needed += dependencies(one)
    assert lock.keys() == {name for name, *_ in seen}, "more than is needed: run python3 tests/lock.py"


def test_all_locks_agree() -> None:
    versions: dict[str, str] = {}
    for directory in DIRECTORIES:
        for name, requirement in locked(ROOT / directory / "requirements.txt").items():
            assert versions.setdefault(name, version(requirement)) == version(requirement), name
