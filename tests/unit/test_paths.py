"""Links between pages lead to the right paths, whatever prefix a gateway or proxy puts before the function's paths."""

from urllib.parse import urljoin

import pytest
from query_data.paths import normalize, relative_root

HOST = "http://gateway"

# prefixes, and the URL paths of the page of users under each
PREFIXES = {
    "/function/query-data": ("/function/query-data", "/function/query-data/"),
    "/function/query-data.openfaas-fn": ("/function/query-data.openfaas-fn/",),
    "/people": ("/people/",),
    "": ("/",),
}
PAGES = ("/", "/rejected", "/runs")


def function_path(prefix: str, url: str) -> str:
    """Return the path that the function receives for a URL."""
    assert url.startswith(f"{HOST}{prefix}"), "the link leads out of the function"
    return url.removeprefix(f"{HOST}{prefix}") or "/"


@pytest.mark.parametrize(("prefix", "start"), [(prefix, url) for prefix, urls in PREFIXES.items() for url in urls])
def test_links_between_pages_resolve_and_their_urls_do_not_grow(prefix: str, start: str) -> None:
    urls = {HOST + start}
    for _ in range(4):
        for url in sorted(urls):
            root = relative_root(function_path(prefix, url))
            for page in PAGES:
                if page == normalize(function_path(prefix, url)):
                    continue  # links to the page itself are only a query
                target = urljoin(url, root + page.removeprefix("/"))
                assert normalize(function_path(prefix, target)) == page
                urls.add(target)
    assert len(urls) <= 6, urls  # each of the three pages has at most two


@pytest.mark.parametrize("path", ["/runs", "/query-data/runs"])
def test_links_to_photos_resolve_from_a_deeper_page(path: str) -> None:
    url = f"{HOST}/function/query-data{path}"
    assert urljoin(url, f"{relative_root(path)}photo/1") == f"{HOST}/function/query-data/photo/1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/query-data/", "/"),
        ("/query-data/runs", "/runs"),
        ("/query-data/query-data/runs", "/query-data/runs"),
        ("/query-data", "/query-data"),
        ("/query-database/runs", "/query-database/runs"),
    ],
)
def test_the_function_name_is_removed_once(path: str, expected: str) -> None:
    assert normalize(path) == expected
