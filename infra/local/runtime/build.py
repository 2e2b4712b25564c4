"""The tree that `faas-cli build --shrinkwrap` makes for a function."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_SKIPPED = shutil.ignore_patterns("__pycache__")


def assemble(handler: Path, copies: Iterable[Path], into: Path, root: Path | None = None) -> None:
    """Make `into` anew from the files of `handler` and the `copies`, paths relative to `root`.

    `root` is the current directory unless given. `__init__.py` comes from the template's Dockerfile.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    (into / "__init__.py").touch()
    for source in handler.iterdir():
        if source.name not in ("build", "template", "__pycache__"):  # faas-cli skips its own two
            _copy(source, into / source.name)
    for path in copies:
        _copy((root or Path()) / path, into / path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=_SKIPPED, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
