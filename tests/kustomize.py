"""What `kustomize build` prints for the few features that infra/kubernetes uses; any other is refused.

Names are never given a hash: a generator without `disableNameSuffixHash` is refused as well.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


class Unsupported(Exception):
    """A feature of kustomize that this does not know."""


def build(directory: Path) -> list[Object]:
    """The objects of a kustomization; two of one identity are an error, as they are to kustomize."""
    objects = list(_objects(directory.resolve()))
    identities = [identity(one) for one in objects]
    repeated = {one for one in identities if identities.count(one) > 1}
    if repeated:
        raise ValueError(f"{directory}: more than one of {sorted(repeated)}")
    return objects


def identity(one: Object) -> tuple[str, str, str]:
    """Namespace (empty for what has none), kind and name."""
    metadata = one["metadata"]
    return metadata.get("namespace", ""), one["kind"], metadata["name"]


def _objects(directory: Path) -> Iterator[Object]:
    file = directory / "kustomization.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    _known(
        content,
        file,
        {"apiVersion", "kind", "resources", "labels", "generatorOptions", "configMapGenerator", "secretGenerator"},
    )
    found = [one for entry in content.get("resources", []) for one in _resource(directory, entry)]
    generators = {"ConfigMap": content.get("configMapGenerator", []), "Secret": content.get("secretGenerator", [])}
    if any(generators.values()) and content.get("generatorOptions") != {"disableNameSuffixHash": True}:
        raise Unsupported(f"{file}: generators without generatorOptions.disableNameSuffixHash alone")
    found += [_generated(kind, entry, file) for kind, entries in generators.items() for entry in entries]
    for entry in content.get("labels", []):
        _known(entry, file, {"pairs"})
        for one in found:
            one["metadata"].setdefault("labels", {}).update(entry["pairs"])
    yield from found


def _resource(directory: Path, entry: str) -> Iterator[Object]:
    path = (directory / entry).resolve()
    if path.is_dir():
        if directory.is_relative_to(path):
            raise ValueError(f"{directory}: {entry} contains it")
        yield from _objects(path)
    else:
        _within(directory, path)
        yield from (one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one)


def _generated(kind: str, entry: Object, file: Path) -> Object:
    _known(entry, file, {"name", "namespace", "files"})
    data = {}
    for source in entry["files"]:
        key, _, name = source.rpartition("=")
        path = (file.parent / name).resolve()
        _within(file.parent, path)
        content = path.read_bytes()
        data[key or path.name] = base64.b64encode(content).decode() if kind == "Secret" else content.decode()
    made: Object = {"apiVersion": "v1", "kind": kind, "data": data, "metadata": {"name": entry["name"]}}
    if "namespace" in entry:
        made["metadata"]["namespace"] = entry["namespace"]
    if kind == "Secret":
        made["type"] = "Opaque"
    return made


def _known(content: Object, file: Path, keys: set[str]) -> None:
    if unknown := content.keys() - keys:
        raise Unsupported(f"{file}: {', '.join(sorted(unknown))}")


def _within(directory: Path, path: Path) -> None:
    """Kustomize reads no file from outside the directory of the kustomization that names it."""
    if not path.is_relative_to(directory):
        raise ValueError(f"{directory}: {path} is outside of it")
