"""The architecture in CONTRIBUTING.md matches the imports of the code."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.documents import CONTRIBUTING, table
from tests.stack import ROOT

DIRECTORIES = ("functions", "shared", "infra/local")

BASE = [ROOT / f"infra/local/{name}.py" for name in ("environment", "errors", "output")]
"""Modules that import nothing from the project. The diagram omits imports of them."""


def modules(directory: str) -> list[Path]:
    return sorted(path for path in (ROOT / directory).rglob("*.py") if path.name != "__init__.py")


def project_imports(path: Path) -> Iterator[Path]:
    """Yield the project's modules that a module imports. test_layers.py checks that such imports are relative."""
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom) and statement.level:
            package = path.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
            for target in (package, *(package / alias.name for alias in statement.names)):
                parts = target.relative_to(ROOT).parts  # shared/ is copied into each function
                module = ROOT.joinpath(*parts[parts.index("shared") :] if "shared" in parts else parts)
                if module.with_suffix(".py").exists():
                    yield module.with_suffix(".py")


def node(path: Path) -> str:
    """Return the node of a module in the diagram: the module itself for handlers and endpoints, else its directory."""
    name = path.parent.relative_to(ROOT).as_posix().removeprefix("functions/")
    return f"{name}/{path.stem}" if path.stem in ("handler", "endpoints") else name


def test_the_diagram_matches_the_imports_and_has_no_cycle() -> None:
    edges = {
        (node(path), node(other))
        for directory in DIRECTORIES
        for path in modules(directory)
        for other in project_imports(path)
        if node(path) != node(other) and other not in BASE
    }
    [diagram] = re.findall(r"```mermaid\n.*\n((?: .*\n)*)```", CONTRIBUTING.read_text(encoding="utf-8"))
    expected = "".join(f"    {importer} --> {other}\n" for importer, other in sorted(edges))
    assert diagram == expected, f"expected diagram:\n{expected}"
    graph: dict[str, set[str]] = {}
    for importer, other in edges:
        graph.setdefault(importer, set()).add(other)
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", ["process-data", "query-data", "shared"])
def test_the_tables_list_modules_above_their_imports(name: str) -> None:
    top = ROOT / ("shared" if name == "shared" else f"functions/{name}")
    paths = {row[0]: top / f"{row[0]}.py" for row in table(CONTRIBUTING, name)}
    top_modules = [path for path in modules(str(top.relative_to(ROOT))) if path.parent.name != "storage"]
    assert sorted(paths.values()) == top_modules
    below = set(top_modules)
    for module, path in paths.items():
        below.remove(path)
        assert {other for other in project_imports(path) if other in top_modules} <= below, module
