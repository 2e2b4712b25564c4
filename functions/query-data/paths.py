"""Paths within the function, and where they begin for the links of a page.

Links are relative, so that they hold behind any prefix. `/function/query-data` and `/function/query-data/` look the
same from here, both are `/`. A link on that page therefore begins with the function's own name: it leads from the one
to `/function/query-data/runs`, and from the other to `/function/query-data/query-data/runs`, which is the same path.
On every other page the path says how deep it is, so its links lead back up and never deeper.
"""

_NAME = "query-data"


def normalize(path: str) -> str:
    """The path without the function's own name at its beginning."""
    return path.removeprefix(f"/{_NAME}") if path.startswith(f"/{_NAME}/") else path


def relative_root(path: str) -> str:
    """What a link on the page at `path`, not normalized, puts before a path within the function."""
    return f"{_NAME}/" if path == "/" else "../" * (path.count("/") - 1) or "./"
