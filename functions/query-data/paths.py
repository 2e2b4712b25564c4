"""Paths within the function, and relative links between its pages.

Links are relative, so that they work behind any prefix. `/function/query-data` and `/function/query-data/` both arrive
as `/`. Links on that page begin with the function's name, because the browser's URL may or may not end with a slash:
they lead to `/function/query-data/runs` or to `/function/query-data/query-data/runs`, which `normalize` makes the same.
On other pages, links begin with a `../` for each further segment of the path.
"""

_NAME = "query-data"


def normalize(path: str) -> str:
    """Remove a leading `/query-data` if another path follows it."""
    return path.removeprefix(f"/{_NAME}") if path.startswith(f"/{_NAME}/") else path


def relative_root(path: str) -> str:
    """The prefix of links on the page at `path`, which is not normalized, to other paths of the function."""
    return f"{_NAME}/" if path == "/" else "../" * (path.count("/") - 1) or "./"
