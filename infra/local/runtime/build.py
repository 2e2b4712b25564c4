"""A function's directory tree, as in its image."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_EXCLUDED = shutil.ignore_patterns("__pycache__")


def assemble(handler: Path, copies: Iterable[Path], into: Path, root: Path | None = None) -> None:
    """Replace `into` with the files of `handler` and the `copies`, which are paths relative to `root`.

    `root` defaults to the current directory.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    (into / "__init__.py").touch()  # as in the template's Dockerfile
    for source in handler.iterdir():
        if source.name not in ("build", "template", "__pycache__"):  # faas-cli excludes build and template
            _copy(source, into / source.name)
    for path in copies:
        _copy((root or Path()) / path, into / path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=_EXCLUDED, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
