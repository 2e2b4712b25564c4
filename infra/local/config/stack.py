"""stack.yml: the functions and their configuration. An unknown key of a function is an error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import LocalError

LANGUAGE = "python3-http-debian"
MAX_REPLICAS = 5
"""The limit of OpenFaaS CE."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_REFERENCE = re.compile(r"(\w+)(?::-(.*))?", re.DOTALL)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_EXPECTED_NAME = "1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end"
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_KEYS = {
    "lang", "handler", "image", "build_args", "annotations", "labels", "environment", "secrets", "requests",
    "limits", "readonly_root_filesystem",
}  # fmt: skip

_DEFAULT_TIMEOUT = "30s"
"""of-watchdog's default for `exec_timeout` and `write_timeout`."""
_REPLICAS_LABEL = "com.openfaas.scale.min"


@dataclass(frozen=True)
class FunctionSpec:
    """One function of stack.yml, with its variables substituted. The timeouts are in seconds."""

    name: str
    handler: Path
    image: str
    exec_timeout: float
    write_timeout: float
    replicas: int
    environment: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    readonly_root_filesystem: bool = False


@dataclass(frozen=True)
class Stack:
    """The functions, and the paths (relative to `root`) that are copied into each of them."""

    root: Path
    copies: list[Path]
    functions: list[FunctionSpec]


def read_stack(root: Path, variables: Mapping[str, str]) -> Stack:
    """Read `root`/stack.yml. `${NAME}` and `${NAME:-default}` in functions are replaced by values of `variables`."""
    path = root / "stack.yml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise LocalError(f"{path} is not valid YAML: {error}") from error
    functions = document.get("functions") if isinstance(document, dict) else None
    if not isinstance(functions, dict) or not functions:
        raise LocalError(f"{path}: functions is required: expected a mapping with at least one function")
    configuration = document.get("configuration") or {}
    copies = configuration.get("copy") or [] if isinstance(configuration, dict) else None
    if not isinstance(copies, list):
        raise LocalError(f"{path}: invalid configuration: expected a mapping whose key copy is a list of paths")
    return Stack(
        root=root,
        copies=[_relative_path(root, copy, "configuration.copy") for copy in copies],
        functions=[_function(root, name, entry, variables) for name, entry in functions.items()],
    )


def parse_duration(text: str, where: str) -> float:
    """Return a duration such as 50s or 1m30s in seconds. A bare number is in seconds."""
    if re.fullmatch(r"[0-9]+", text):
        return float(text)
    if not text or not (match := _DURATION.fullmatch(text)):
        raise LocalError(f"{where}: invalid duration {text!r}: expected one such as 50s or 1m30s")
    hours, minutes, seconds = (float(number or 0) for number in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _function(root: Path, name: object, entry: object, variables: Mapping[str, str]) -> FunctionSpec:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise LocalError(f"invalid function name {name!r}: expected {_EXPECTED_NAME}")
    if not isinstance(entry, dict):
        raise LocalError(f"{name}: invalid function: expected a mapping with lang, handler and image")
    if unknown := entry.keys() - _KEYS:
        raise LocalError(
            f"{name}: unknown key {', '.join(sorted(map(str, unknown)))}; expected one of {', '.join(sorted(_KEYS))}"
        )
    values = _substitute(entry, name, variables)
    if values.get("lang") != LANGUAGE:
        raise _invalid(f"{name}: lang", values.get("lang"), LANGUAGE)
    handler = root / _relative_path(root, values.get("handler"), f"{name}: handler")
    if not (handler / "handler.py").is_file():
        raise LocalError(f"{name}: handler: {handler / 'handler.py'} does not exist")
    if not isinstance(values.get("image"), str):
        raise _invalid(f"{name}: image", values.get("image"), "a string")
    keys = ("environment", "annotations", "labels", "requests", "limits")
    mappings = {key: _strings(values.get(key) or {}, f"{name}: {key}") for key in keys}
    return FunctionSpec(
        name=name,
        handler=handler,
        image=values["image"],
        exec_timeout=_timeout(mappings["environment"], "exec_timeout", name),
        write_timeout=_timeout(mappings["environment"], "write_timeout", name),
        replicas=_replicas(mappings["labels"].get(_REPLICAS_LABEL, "1"), name),
        secrets=_secrets(values.get("secrets") or [], name),
        readonly_root_filesystem=values.get("readonly_root_filesystem") is True,
        **mappings,
    )


def _timeout(environment: Mapping[str, str], key: str, function: str) -> float:
    where = f"{function}: environment.{key}"
    if not (timeout := parse_duration(environment.get(key, _DEFAULT_TIMEOUT), where)):
        raise LocalError(f"{where}: the local stack requires a limit: expected more than 0")
    return timeout


def _substitute(value: Any, where: str, variables: Mapping[str, str]) -> Any:
    """Return `value` with the variables in its strings replaced, at any depth."""

    def replacement(match: re.Match[str]) -> str:
        reference = _REFERENCE.fullmatch(match[1])
        if not reference:
            raise LocalError(f"{where}: invalid variable {match[0]}: expected ${{NAME}} or ${{NAME:-default}}")
        name, default = reference.groups()
        text = variables.get(name) or default
        if text is None:
            raise LocalError(f"{where}: the environment variable {name} is required")
        return text

    match value:
        case str():
            return _VARIABLE.sub(replacement, value)
        case dict():
            separator = ": " if ": " not in where else "."
            return {key: _substitute(item, f"{where}{separator}{key}", variables) for key, item in value.items()}
        case list():
            return [_substitute(item, where, variables) for item in value]
    return value


def _invalid(where: str, value: object, expected: str) -> LocalError:
    problem = " is required" if value is None else f": invalid value {value!r}"
    return LocalError(f"{where}{problem}: expected {expected}")


def _relative_path(root: Path, text: object, where: str) -> Path:
    """Return the path relative to `root`. Raise LocalError unless it exists inside `root`."""
    if not isinstance(text, str) or not text:
        raise _invalid(where, text, "a path inside the project")
    path = (root / text).resolve()
    if path == root.resolve() or not path.is_relative_to(root.resolve()):
        raise LocalError(f"{where}: invalid path {text!r}: expected one inside the project")
    if not path.exists():
        raise LocalError(f"{where}: {path} does not exist")
    return path.relative_to(root.resolve())


def _strings(mapping: object, where: str) -> dict[str, str]:
    if not isinstance(mapping, dict):
        raise _invalid(where, mapping, "a mapping")
    for key, value in mapping.items():
        if not isinstance(value, str):
            raise LocalError(f"{where}.{key}: invalid value {value!r}: expected a string (put it in quotes)")
    return {str(key): value for key, value in mapping.items()}


def _replicas(text: str, function: str) -> int:
    if text not in map(str, range(1, MAX_REPLICAS + 1)):
        raise _invalid(f"{function}: labels.{_REPLICAS_LABEL}", text, f"1 to {MAX_REPLICAS}")
    return int(text)


def _secrets(names: object, function: str) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise _invalid(f"{function}: secrets", names, f"a list of names of {_EXPECTED_NAME}")
    return names
