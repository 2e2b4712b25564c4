"""Links between pages lead to the same paths behind any prefix, and never deeper."""

from urllib.parse import urljoin

import pytest
from query_data.paths import normalize, relative_root

HOST = "http://gateway"

# what a gateway or a proxy in front of it puts before the function's paths, and the URLs of the people's page there
PREFIXES = {
    "/function/query-data": ("/function/query-data", "/function/query-data/"),
    "/function/query-data.openfaas-fn": ("/function/query-data.openfaas-fn/",),
    "/people": ("/people/",),
    "": ("/",),
}
SECTIONS = ("/", "/rejected", "/runs")


def path(prefix: str, url: str) -> str:
    """What the function is given as the path."""
    assert url.startswith(f"{HOST}{prefix}"), "the link leads out of the function"
    return url.removeprefix(f"{HOST}{prefix}") or "/"


@pytest.mark.parametrize(("prefix", "start"), [(prefix, url) for prefix, urls in PREFIXES.items() for url in urls])
def test_every_section_is_reached_from_every_other_and_urls_do_not_grow(prefix: str, start: str) -> None:
    urls = {HOST + start}
    for _ in range(4):
        for url in sorted(urls):
            root = relative_root(path(prefix, url))
            for section in SECTIONS:
                if section == normalize(path(prefix, url)):
                    continue  # that link is a query alone
                target = urljoin(url, root + section.removeprefix("/"))
                assert normalize(path(prefix, target)) == section
                urls.add(target)
    assert len(urls) <= 6, urls


@pytest.mark.parametrize("given", ["/runs", "/query-data/runs"])
def test_photos_and_other_paths_are_reached_from_a_deeper_page(given: str) -> None:
    url = f"{HOST}/function/query-data{given}"
    assert urljoin(url, f"{relative_root(given)}photo/1") == f"{HOST}/function/query-data/photo/1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/", "/"),
        ("/query-data/", "/"),
        ("/query-data/runs", "/runs"),
        ("/query-data/query-data/runs", "/query-data/runs"),
        ("/query-data", "/query-data"),
        ("/query-database/runs", "/query-database/runs"),
    ],
)
def test_the_functions_own_name_is_taken_off_once(given: str, expected: str) -> None:
    assert normalize(given) == expected
