"""stack.yml, read as faas-cli reads it: which functions there are and what each is given."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import LocalError

LANGUAGE = "python3-http-debian"

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAMED = re.compile(r"(\w+)(?::-(.*))?", re.DOTALL)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_KEYS = {
    "lang", "handler", "image", "build_args", "annotations", "labels", "environment", "secrets", "requests",
    "limits", "readonly_root_filesystem",
}  # fmt: skip

_SCALE = "com.openfaas.scale.min"
_REPLICAS = ("1", "2", "3", "4", "5")
"""As many as OpenFaaS CE has at most."""


@dataclass(frozen=True)
class FunctionSpec:
    """One function of stack.yml, its variables filled in."""

    name: str
    handler: Path
    image: str
    environment: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    readonly_root_filesystem: bool = False

    @property
    def exec_timeout(self) -> float:
        """Seconds an invocation may take; of-watchdog's default is 30."""
        text = self.environment.get("exec_timeout", "30s")
        return seconds(text, f"{self.name}: environment.exec_timeout")

    @property
    def replicas(self) -> int:
        """How many run at the same time."""
        text = self.labels.get(_SCALE, "1")
        if text not in _REPLICAS:
            raise LocalError(f"{self.name}: labels.{_SCALE}: {text!r} is not allowed: {' '.join(_REPLICAS)}")
        return int(text)


@dataclass(frozen=True)
class Stack:
    """The functions, and the paths (relative to `root`) that every one is given a copy of."""

    root: Path
    copies: list[Path]
    functions: list[FunctionSpec]


def read_stack(root: Path, variables: Mapping[str, str]) -> Stack:
    """Read `root`/stack.yml. `${NAME}` and `${NAME:-default}` come from `variables`."""
    path = root / "stack.yml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalError(f"{path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise LocalError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("functions"), dict):
        raise LocalError(f"{path} names no functions: it needs a mapping `functions:`")
    copies = (document.get("configuration") or {}).get("copy") or []
    return Stack(
        root=root,
        copies=[_inside(root, copy, "configuration.copy") for copy in copies],
        functions=[_function(root, name, entry, variables) for name, entry in document["functions"].items()],
    )


def seconds(text: str, where: str) -> float:
    """The seconds of a Go duration such as 50s or 1m30s, or of a bare number."""
    if re.fullmatch(r"\d+", text):
        return float(text)
    if not text or not (parts := _DURATION.fullmatch(text)):
        raise LocalError(f"{where}: {text!r} is not allowed: a duration such as 50s or 1m30s")
    hours, minutes, rest = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + rest


def _function(root: Path, name: object, entry: object, variables: Mapping[str, str]) -> FunctionSpec:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise LocalError(f"function {name!r}: a name has 1 to 63 lower-case letters, digits and hyphens")
    if not isinstance(entry, dict):
        raise LocalError(f"{name}: a mapping is needed, with lang, handler and image")
    if unknown := entry.keys() - _KEYS:
        raise LocalError(f"{name}: {', '.join(sorted(unknown))}: the local stack knows {', '.join(sorted(_KEYS))}")
    values = _filled(entry, name, variables)
    if values.get("lang") != LANGUAGE:
        raise LocalError(f"{name}: lang: {values.get('lang')!r} is not allowed: {LANGUAGE}")
    handler = root / _inside(root, values.get("handler"), f"{name}: handler")
    if not (handler / "handler.py").is_file():
        raise LocalError(f"{name}: handler: there is no {handler / 'handler.py'}")
    if not isinstance(values.get("image"), str):
        raise LocalError(f"{name}: image: the name of an image is needed")
    tables = ("environment", "annotations", "labels", "requests", "limits")
    return FunctionSpec(
        name=name,
        handler=handler,
        image=values["image"],
        secrets=_secrets(values.get("secrets") or [], name),
        readonly_root_filesystem=values.get("readonly_root_filesystem") is True,
        **{key: _texts(values.get(key) or {}, f"{name}: {key}") for key in tables},
    )


def _filled(value: Any, where: str, variables: Mapping[str, str]) -> Any:
    """`value` with the variables in its texts, at any depth, replaced."""

    def replacement(match: re.Match[str]) -> str:
        named = _NAMED.fullmatch(match[1])
        if not named:
            raise LocalError(f"{where}: {match[0]} is not allowed: ${{NAME}} or ${{NAME:-default}}")
        name, default = named.groups()
        text = variables.get(name) or default
        if text is None:
            raise LocalError(f"{where}: {match[0]}: the environment variable {name} is not set")
        return text

    match value:
        case str():
            return _VARIABLE.sub(replacement, value)
        case dict():
            joint = ": " if ": " not in where else "."
            return {key: _filled(one, f"{where}{joint}{key}", variables) for key, one in value.items()}
        case list():
            return [_filled(one, where, variables) for one in value]
    return value


def _inside(root: Path, text: object, where: str) -> Path:
    """A path relative to `root`, as faas-cli wants it."""
    if not isinstance(text, str) or not text:
        raise LocalError(f"{where}: a path inside the project is needed")
    path = (root / text).resolve()
    if path == root.resolve() or not path.is_relative_to(root.resolve()):
        raise LocalError(f"{where}: {text!r} is not allowed: a path inside the project")
    if not path.exists():
        raise LocalError(f"{where}: there is no {path}")
    return path.relative_to(root.resolve())


def _texts(table: object, where: str) -> dict[str, str]:
    if not isinstance(table, dict):
        raise LocalError(f"{where}: a mapping is needed")
    for key, value in table.items():
        if not isinstance(value, str):
            raise LocalError(f"{where}.{key}: {value!r} is not allowed: a text (put it in quotes)")
    return {str(key): value for key, value in table.items()}


def _secrets(names: object, function: str) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(one, str) and _NAME.fullmatch(one) for one in names):
        raise LocalError(f"{function}: secrets: a list of names is needed: lower-case letters, digits and hyphens")
    return names
