"""The architecture that CONTRIBUTING.md describes is that of the code, as its imports show."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.documents import CONTRIBUTING, table
from tests.stack import ROOT

DIRECTORIES = ("functions", "shared", "infra/local")

BASE = [ROOT / "infra/local/errors.py", ROOT / "infra/local/environment.py"]
"""Modules that import nothing of the project and that every room of their directory may import."""


def modules(directory: str) -> list[Path]:
    return sorted(path for path in (ROOT / directory).rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> Iterator[Path]:
    """The project's modules that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for found in (package, *(package / alias.name for alias in node.names)):
                parts = found.relative_to(ROOT).parts  # shared/ is copied into each function
                module = ROOT.joinpath(*parts[parts.index("shared") :] if "shared" in parts else parts)
                if module.with_suffix(".py").exists():
                    yield module.with_suffix(".py")


def room(path: Path) -> str:
    """The directory of a module. What wires a function together, its handler and endpoints, has rooms of its own."""
    name = path.parent.relative_to(ROOT).as_posix().removeprefix("functions/")
    return f"{name}/{path.stem}" if path.stem in ("handler", "endpoints") else name


def test_the_diagram_shows_the_imports_between_rooms_and_they_have_no_cycle() -> None:
    edges = {
        (room(path), room(other))
        for directory in DIRECTORIES
        for path in modules(directory)
        for other in imported(path)
        if room(path) != room(other) and other not in BASE
    }
    [diagram] = re.findall(r"```mermaid\n.*\n((?: .*\n)*)```", CONTRIBUTING.read_text(encoding="utf-8"))
    expected = "".join(f"    {importer} --> {other}\n" for importer, other in sorted(edges))
    assert diagram == expected, f"the diagram has to be:\n{expected}"
    graph: dict[str, set[str]] = {}
    for importer, other in edges:
        graph.setdefault(importer, set()).add(other)
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", ["process-data", "query-data", "shared"])
def test_each_module_is_in_the_table_above_those_that_it_imports(name: str) -> None:
    top = ROOT / ("shared" if name == "shared" else f"functions/{name}")
    paths = {row[0]: top / f"{row[0]}.py" for row in table(CONTRIBUTING, name)}
    own = [path for path in modules(str(top.relative_to(ROOT))) if path.parent.name != "storage"]
    assert sorted(paths.values()) == own
    below = set(own)
    for row, path in paths.items():
        below.remove(path)
        assert {other for other in imported(path) if other in own} <= below, row
