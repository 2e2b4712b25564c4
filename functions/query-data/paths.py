"""Paths within the function, and relative links between its pages.

Links are relative, so that they work behind any prefix. The browser requests the main page as `/function/query-data` or
as `/function/query-data/`; the function gets the path `/` in both cases. Links on this page begin with the function's
name. So `query-data/runs` leads from the first URL to `/function/query-data/runs`, and from the second to
`/function/query-data/query-data/runs`, where `normalize` removes the repeated name.

On other pages, links begin with a `../` for each segment of the path after the first.
"""

_NAME = "query-data"


def normalize(path: str) -> str:
    """Remove a leading `/query-data` if a path follows it."""
    return path.removeprefix(f"/{_NAME}") if path.startswith(f"/{_NAME}/") else path


def relative_root(path: str) -> str:
    """Return the prefix of links from a page to other paths of the function. `path` is as requested, not normalized."""
    return f"{_NAME}/" if path == "/" else "../" * (path.count("/") - 1) or "./"
