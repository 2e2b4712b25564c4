"""A function's directory tree, as in its image."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_EXCLUDED = shutil.ignore_patterns("__pycache__")


def assemble(handler: Path, copies: Iterable[Path], target: Path, root: Path | None = None) -> None:
    """Replace `target` with the files of `handler` and the `copies`, which are paths relative to `root`.

    `root` defaults to the current directory.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "__init__.py").touch()  # as in the template's Dockerfile
    for source in handler.iterdir():
        if source.name not in ("build", "template", "__pycache__"):  # faas-cli excludes build and template
            _copy(source, target / source.name)
    for path in copies:
        _copy((root or Path()) / path, target / path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=_EXCLUDED, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
