"""Reading stack.yml, and assembling a function's directory tree."""

import re
from pathlib import Path

import pytest

from infra.local.config.stack import parse_duration, read_stack
from infra.local.errors import LocalError
from infra.local.runtime.build import assemble
from tests.stack import ROOT

STACK_YML = """
functions:
  one:
    lang: python3-http-debian
    handler: ./one
    image: "${REGISTRY:-here}/one:${TAG:-latest}"
    environment:
      plain: text
      filled: "${FILLED}"
      empty: "${EMPTY:-}"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/handler.py").touch()
    (tmp_path / "stack.yml").write_text(STACK_YML)
    return tmp_path


def test_variables_are_substituted(root: Path) -> None:
    (function,) = read_stack(root, {"FILLED": "a: #b", "TAG": "2", "REGISTRY": ""}).functions
    assert function.image == "here/one:2"
    assert function.environment == {"plain": "text", "filled": "a: #b", "empty": ""}
    assert function.exec_timeout == function.write_timeout == 30  # of-watchdog's defaults


def test_a_copy_key_without_a_value_copies_nothing(root: Path) -> None:
    (root / "stack.yml").write_text(f"{STACK_YML}\nconfiguration:\n  copy:\n")
    assert read_stack(root, {"FILLED": "x"}).copies == []


@pytest.mark.parametrize("timeout", ["exec_timeout", "write_timeout"])
def test_a_function_without_a_time_limit_is_an_error(root: Path, timeout: str) -> None:
    unlimited = STACK_YML.replace("      plain: text", f"      plain: text\n      {timeout}: 0s")  # 0 means no limit
    assert timeout in unlimited
    (root / "stack.yml").write_text(unlimited)
    with pytest.raises(LocalError, match=rf"one: environment\.{timeout}: .* expected more than 0"):
        read_stack(root, {"FILLED": "x"})


@pytest.mark.parametrize(
    ("key", "line", "error"),
    [
        ("lang", "", "is required: expected python3-http-debian"),
        ("handler", "", "is required: expected a path inside the project"),
        ("image", "", "is required: expected a string"),
        ("handler", "handler: 5", "invalid value 5: expected a path inside the project"),
        ("image", "image: 5", "invalid value 5: expected a string"),
    ],
)
def test_the_error_says_whether_a_key_is_missing_or_invalid(root: Path, key: str, line: str, error: str) -> None:
    (root / "stack.yml").write_text(re.sub(rf"(?m)^    {key}: .*$", f"    {line}".rstrip(), STACK_YML))
    with pytest.raises(LocalError, match=f"one: {key}:? {error}"):
        read_stack(root, {"FILLED": "x"})


def test_the_error_for_an_unset_variable_names_the_function_and_the_key(root: Path) -> None:
    with pytest.raises(LocalError, match=r"one: environment\.filled: .*FILLED is required"):
        read_stack(root, {})


@pytest.mark.parametrize("form", ["${FILLED:=x}", "${}", "${A B}"])
def test_unsupported_variable_forms_are_errors(root: Path, form: str) -> None:
    (root / "stack.yml").write_text(STACK_YML.replace("${FILLED}", form))
    with pytest.raises(LocalError, match=r"one: environment\.filled: .*\$\{NAME:-default\}"):
        read_stack(root, {})


def test_a_missing_stack_yml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"stack\.yml cannot be read"):
        read_stack(tmp_path, {})


@pytest.mark.parametrize(("text", "expected"), [("50s", 50), ("1m30s", 90), ("2h", 7200), ("1.5s", 1.5), ("20", 20)])
def test_durations_are_parsed(text: str, expected: float) -> None:
    assert parse_duration(text, "x") == expected


@pytest.mark.parametrize("text", ["", "s", "5 s", "-5s", "5x", "1s1m", "٣s", "٣"])
def test_an_invalid_duration_is_an_error(text: str) -> None:
    with pytest.raises(LocalError, match="50s"):
        parse_duration(text, "x")


def test_the_projects_stack_yml_is_valid() -> None:
    endpoints = {"S3_ENDPOINT": "s3:1", "POSTGRES_HOST": "pg", "POSTGRES_PORT": "2"}
    stack = read_stack(ROOT, endpoints)
    assert [function.name for function in stack.functions] == ["process-data", "query-data"]
    assert stack.functions[0].environment["s3_endpoint"] == "s3:1"
    assert stack.functions[1].environment["postgres_port"] == "2"
    assert stack.copies == [Path("shared")]


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def source_files(directory: Path) -> set[str]:
    return {name for name in files(directory) if "__pycache__" not in name}


@pytest.mark.parametrize("name", ["process-data", "query-data"])
def test_the_assembled_tree_has_the_handlers_files_and_shared(name: str, tmp_path: Path) -> None:
    assemble(ROOT / "functions" / name, [Path("shared")], tmp_path / "function", ROOT)
    shared = {f"shared/{path}" for path in source_files(ROOT / "shared")}
    assert files(tmp_path / "function") == source_files(ROOT / "functions" / name) | shared | {"__init__.py"}
    assert {"handler.py", "requirements.txt", "shared/storage/connection.py"} <= files(tmp_path / "function")


def test_an_assembled_tree_replaces_the_old_one_and_omits_caches_and_what_faas_cli_omits(tmp_path: Path) -> None:
    handler, target = tmp_path / "handler", tmp_path / "built"
    for directory in ("handler/build", "handler/template", "handler/package/__pycache__", "built/old"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "file").touch()
    (handler / "handler.py").touch()
    assemble(handler, [], target)
    assert files(target) == {"__init__.py", "handler.py"}
