"""The dependency rule: handler → the function's modules → shared → shared/storage, one way only."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT

FUNCTIONS = sorted((ROOT / "functions").iterdir())
ALLOWED_AT_THE_TOP = {"README.md", "stack.yml", "functions", "shared", "infra", "tests"}

DISTRIBUTIONS = {"flask": "Flask", "werkzeug": "Flask", "markupsafe": "Flask", "jinja2": "Flask"}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports; relative names keep their leading dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            if node.module is None:
                yield from (base + name.name for name in node.names)


def external_packages(path: Path) -> set[str]:
    """Return the imported top-level packages that are not in the standard library."""
    absolute = (name.split(".")[0] for name in imports(path) if not name.startswith("."))
    return {name for name in absolute if name not in sys.stdlib_module_names}


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.py"))


def test_the_top_level_has_only_six_entries_that_are_not_hidden() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} == ALLOWED_AT_THE_TOP


@pytest.mark.parametrize("path", files(ROOT / "shared"), ids=lambda path: path.stem)
def test_shared_imports_no_function_and_storage_imports_nothing_else_of_shared(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("..")]


@pytest.mark.parametrize("path", files(ROOT / "shared/storage"), ids=lambda path: path.stem)
def test_storage_imports_no_web_framework(path: Path) -> None:
    assert external_packages(path) <= {"minio", "urllib3", "certifi", "pg8000"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda path: path.name)
def test_of_the_projects_modules_functions_import_only_their_own_and_shared(function: Path) -> None:
    own = {path.stem for path in files(function)} | {path.parent.name for path in files(function)} | {"shared"}
    for path in files(function):
        depth = len(path.relative_to(function).parts)
        for name in imports(path):
            module = name.lstrip(".")
            if name.startswith("."):
                assert len(name) - len(module) <= depth, f"{path.name} reaches out of its function: {name}"
                assert not module or module.split(".")[0] in own
            assert module.split(".")[0] not in ("handler", "infra", "tests")


def test_only_the_endpoints_and_the_handler_import_the_pages() -> None:
    """Both import them lazily: other requests need no templates."""
    query_data = ROOT / "functions/query-data"
    importers = {
        path.name
        for path in query_data.glob("*.py")
        if any(name.lstrip(".").split(".")[0] == "web" for name in imports(path))
    }
    assert importers == {"endpoints.py", "handler.py"}


def test_the_local_stack_imports_no_function_and_uses_relative_names_for_its_own_modules() -> None:
    for path in files(ROOT / "infra/local"):
        assert not external_packages(path) & {"functions", "shared", "process_data", "query_data", "infra", "tests"}


PACKAGES: dict[str, set[str]] = {
    "config": set(),
    "runtime": {"config"},
    "servers": {"config", "runtime"},
    "gateway": {"config", "runtime"},
    "demo": set(),
}
"""The packages of the local stack, and which of the others each may import."""


def test_the_packages_of_the_local_stack_are_known() -> None:
    assert {path.parent.name for path in (ROOT / "infra/local").glob("*/__init__.py")} == PACKAGES.keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_of_the_local_stack_depend_on_each_other_one_way_only(package: str) -> None:
    for path in files(ROOT / "infra/local" / package):
        assert "infra" not in external_packages(path), f"{path}: expected a relative import"
        imported = {name.lstrip(".").split(".")[0] for name in imports(path) if name.startswith("..")}
        assert imported <= PACKAGES[package] | {"environment", "errors", "output"}, path


def test_only_storage_imports_the_s3_and_postgresql_libraries() -> None:
    continuation = ROOT / "functions/process-data/continuation.py"
    paths = [path for path in files(ROOT / "shared") if path.parent.name != "storage"]
    for path in [*paths, *(path for function in FUNCTIONS for path in files(function))]:
        allowed = {"urllib3"} if path == continuation else set()  # the gateway is not a backend
        assert external_packages(path) & {"minio", "urllib3", "pg8000", "certifi"} == allowed, path


def pins(path: Path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(re.fullmatch(r"([\w.-]+)==(\S+)", line).groups() for line in lines if line)  # type: ignore[union-attr,misc]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda path: path.name)
def test_requirements_match_the_imports(function: Path) -> None:
    distributions = {
        DISTRIBUTIONS.get(name, name)
        for path in files(function) + files(ROOT / "shared")
        for name in external_packages(path)
    }
    assert distributions == set(pins(function / "requirements.in"))


def test_both_functions_pin_the_same_versions() -> None:
    first, second = (pins(function / "requirements.in") for function in FUNCTIONS)
    common = first.keys() & second.keys()
    assert {name: first[name] for name in common} == {name: second[name] for name in common}
