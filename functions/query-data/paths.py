"""Paths within the function, and relative links between its pages.

Links are relative, so that they work behind any prefix. `/function/query-data` and `/function/query-data/` both arrive
as `/`. So links on that page begin with the function's name: they lead from the former to `/function/query-data/runs`,
and from the latter to `/function/query-data/query-data/runs`, which is the same path. On every other page the path
tells its depth, so links lead up first.
"""

_NAME = "query-data"


def normalize(path: str) -> str:
    """The path without the function's name at its beginning."""
    return path.removeprefix(f"/{_NAME}") if path.startswith(f"/{_NAME}/") else path


def relative_root(path: str) -> str:
    """The prefix of links on the page at `path`, which is not normalized, to other paths of the function."""
    return f"{_NAME}/" if path == "/" else "../" * (path.count("/") - 1) or "./"
