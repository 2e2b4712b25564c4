"""A small `kustomize build` with the features that infra/kubernetes uses; all others raise Unsupported.

Name suffix hashes are not supported: generators need `disableNameSuffixHash`.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


class Unsupported(Exception):
    """A kustomize feature that this module does not support."""


def build(directory: Path) -> list[Object]:
    """Return the objects of a kustomization. Raise ValueError for duplicates, as kustomize does."""
    objects = list(_objects(directory.resolve()))
    identities = [identity(item) for item in objects]
    duplicates = {item for item in identities if identities.count(item) > 1}
    if duplicates:
        raise ValueError(f"{directory}: duplicate objects {sorted(duplicates)}")
    return objects


def identity(item: Object) -> tuple[str, str, str]:
    """Return the namespace (empty if there is none), the kind and the name."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), item["kind"], metadata["name"]


def _objects(directory: Path) -> Iterator[Object]:
    file = directory / "kustomization.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    _check_keys(
        content,
        file,
        {"apiVersion", "kind", "resources", "labels", "generatorOptions", "configMapGenerator", "secretGenerator"},
    )
    items = [item for entry in content.get("resources", []) for item in _resource(directory, entry)]
    generators = {"ConfigMap": content.get("configMapGenerator", []), "Secret": content.get("secretGenerator", [])}
    if any(generators.values()) and content.get("generatorOptions") != {"disableNameSuffixHash": True}:
        raise Unsupported(f"{file}: generators need generatorOptions with only disableNameSuffixHash")
    items += [_generated(kind, entry, file) for kind, entries in generators.items() for entry in entries]
    for entry in content.get("labels", []):
        _check_keys(entry, file, {"pairs"})
        for item in items:
            item["metadata"].setdefault("labels", {}).update(entry["pairs"])
    yield from items


def _resource(directory: Path, entry: str) -> Iterator[Object]:
    path = (directory / entry).resolve()
    if path.is_dir():
        if directory.is_relative_to(path):
            raise ValueError(f"{directory}: the resource {entry} contains this directory")
        yield from _objects(path)
    else:
        _check_path(directory, path)
        yield from (item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item)


def _generated(kind: str, entry: Object, file: Path) -> Object:
    _check_keys(entry, file, {"name", "namespace", "files"})
    data = {}
    for source in entry["files"]:
        key, _, name = source.rpartition("=")
        path = (file.parent / name).resolve()
        _check_path(file.parent, path)
        content = path.read_bytes()
        data[key or path.name] = base64.b64encode(content).decode() if kind == "Secret" else content.decode()
    generated: Object = {"apiVersion": "v1", "kind": kind, "data": data, "metadata": {"name": entry["name"]}}
    if "namespace" in entry:
        generated["metadata"]["namespace"] = entry["namespace"]
    if kind == "Secret":
        generated["type"] = "Opaque"
    return generated


def _check_keys(content: Object, file: Path, keys: set[str]) -> None:
    if unknown := content.keys() - keys:
        raise Unsupported(f"{file}: unsupported fields {', '.join(sorted(unknown))}")


def _check_path(directory: Path, path: Path) -> None:
    """Raise ValueError for a file outside the kustomization's directory, as kustomize does."""
    if not path.is_relative_to(directory):
        raise ValueError(f"{directory}: {path} is outside this directory")
