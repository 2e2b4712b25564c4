"""Listings: which responses are invalid, and where the key space may be split into segments.

An incomplete listing must not look as if files had been removed. All keys of a user must be in one segment.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from process_data.keys import LAST_KEY, is_representable, keys_of, parse_key, user_around
from process_data.listing import Listing, list_photos_after, list_range
from process_data.shared.storage.errors import Unavailable
from process_data.shared.storage.listing import ListingPage, ObjectInfo, parse_listing

PAGE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>%s"
    b"<Contents><Key>a%%2Bb%%FF.csv</Key><ETag>&#34;e&#34;</ETag><Size>5</Size>"
    b"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
    b"<CommonPrefixes><Prefix>f%%20f/</Prefix></CommonPrefixes></ListBucketResult>\n"
)
TOKEN = b"<NextContinuationToken>a&amp;b</NextContinuationToken>"


def test_a_page_has_objects_folders_and_a_token() -> None:
    objects = [ObjectInfo("a+b\udcff.csv", "e", 5, "2026-01-01T00:00:00Z")]
    assert parse_listing(PAGE % (b"false", b"")) == ListingPage(objects, ["f f/"], None)
    assert parse_listing(PAGE % (b"true", TOKEN)) == ListingPage(objects, ["f f/"], "a&b")
    assert parse_listing(PAGE % (b"false", TOKEN)).token is None
    assert parse_listing(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>").objects == []


def test_a_plus_in_an_encoded_key_is_a_space() -> None:
    """AWS encodes a space as a plus, SeaweedFS and MinIO as a plus or as %20."""
    page = parse_listing((PAGE % (b"false", b"")).replace(b"a%2Bb%FF.csv", b"a+b.csv").replace(b"f%20f/", b"f+f/"))
    assert ([info.key for info in page.objects], page.folders) == (["a b.csv"], ["f f/"])


def test_a_line_break_in_a_key_does_not_separate_keys() -> None:
    plain = (PAGE % (b"false", b"")).replace(b"<EncodingType>url</EncodingType>", b"")
    page = parse_listing(plain.replace(b"a%2Bb%FF.csv", b"a\nb&#10;.csv"))
    assert [info.key for info in page.objects] == ["a\nb\n.csv"]


def test_unencoded_keys_are_read_unchanged() -> None:
    plain = (PAGE % (b"false", b"")).replace(b"<EncodingType>url</EncodingType>", b"")
    page = parse_listing(plain.replace(b"a%2Bb%FF.csv", b"a+b%41&amp;&lt;.csv"))
    assert page.objects == [ObjectInfo("a+b%41&<.csv", "e", 5, "2026-01-01T00:00:00Z")]


@pytest.mark.parametrize("quote", [b"", b'"', b"&#34;", b"&quot;"])
def test_an_etag_is_read_without_its_quotes(quote: bytes) -> None:
    """A GET returns it with quotes, which are removed there too."""
    xml = (PAGE % (b"false", b"")).replace(b"&#34;", quote)
    assert [info.etag for info in parse_listing(xml).objects] == ["e"]


def test_a_listing_may_be_indented() -> None:
    xml = PAGE % (b"true", TOKEN)
    assert parse_listing(re.sub(rb">(?=<[^/]|</(Contents|CommonPrefixes|List))", b">\n  ", xml)) == parse_listing(xml)


@pytest.mark.parametrize(
    "xml",
    [b"", b"<html></html>", b"<Error><Code>SlowDown</Code></Error>", (PAGE % (b"false", b"")).partition(b"</Cont")[0]],
)
def test_an_invalid_listing_is_an_error(xml: bytes) -> None:
    with pytest.raises(Unavailable, match="bucket listing"):
        parse_listing(xml)


@pytest.mark.parametrize("token", [b"", b"<NextContinuationToken></NextContinuationToken>"])
def test_a_truncated_page_without_a_token_is_an_error(token: bytes) -> None:
    with pytest.raises(Unavailable, match="no continuation token"):
        parse_listing(PAGE % (b"true", token))


@pytest.mark.parametrize(
    "missing",
    [
        b"<ETag>&#34;e&#34;</ETag>",
        b"<Size>5</Size>",
        b"<Key>a%2Bb%FF.csv</Key>",
        b"<LastModified>2026-01-01T00:00:00Z</LastModified>",
    ],
)
def test_an_object_without_key_etag_size_or_time_is_an_error(missing: bytes) -> None:
    with pytest.raises(Unavailable, match="lacks its key, ETag, size or LastModified"):
        parse_listing((PAGE % (b"false", b"")).replace(missing, b""))


def test_an_object_without_any_field_is_an_error() -> None:
    with pytest.raises(Unavailable, match="lacks its key, ETag, size or LastModified"):
        parse_listing((PAGE % (b"false", b"")).replace(b"<Contents>", b"<Contents></Contents><Contents>"))


@pytest.mark.parametrize(
    ("key", "user_id"),
    [
        ("12.csv", "12"),  # photos may follow
        ("12.d", "12"),
        ("12.jpeg", "12"),
        ("12.jpg", "12"),
        ("12.jpg.bak", "12"),
        ("12.png", None),  # the user's last key
        ("12.zzz", None),
        ("12.a", None),  # sorts before the user's first key
        ("12-x", None),
        ("12", None),
        ("12/", None),
        ("120", None),
        ("notes.txt", None),
        ("a.csv", None),
        ("1" * 18 + ".csv", "1" * 18),
        ("1" * 19 + ".csv", None),  # not a user's key
    ],
)
def test_user_around_returns_the_user_whose_keys_a_boundary_would_split(key: str, user_id: str | None) -> None:
    assert user_around(key) == user_id


@pytest.mark.parametrize("key", ["\udcff.csv", "12.csv\0", LAST_KEY, f"{LAST_KEY}.csv"])
def test_an_unrepresentable_key_is_ignored_and_cannot_be_a_boundary(key: str) -> None:
    assert not is_representable(key)
    assert parse_key(key).kind == "ignored"


USER_IDS = st.sampled_from(["0", "00", "1", "12", "120", "121", "13", "2", "1" * 18])
KEYS = st.one_of(
    USER_IDS.flatmap(lambda user_id: st.sampled_from(keys_of(user_id))),
    st.builds(
        "{}{}".format,
        USER_IDS,
        st.sampled_from(
            ["", "-x", "-", ".", ".a", ".d", ".d/e", ".d/f", ".jpf", ".pnf", ".png/x", ".zzz", "/", "/x", "0", ".CSV"]
        ),
    ),
    st.sampled_from(["", "x.csv", "x", "x/y.csv", "x0", "~.csv", "ä.csv", "😀.csv", "1" * 19 + ".csv"]),
).filter(bool)
KEY_SETS = st.sets(KEYS, max_size=40).map(sorted)
SERVERS = st.sampled_from(["S3", "SeaweedFS"])
PAGE_SIZES = st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any)


def pages(
    keys: Sequence[str], start: str, sizes: Sequence[int], server: str = "S3"
) -> Callable[[str | None], ListingPage]:
    """Return `get_page` for the keys after `start`, listed with delimiter=/ in pages of these sizes."""
    names = {f"{key.partition('/')[0]}/" if "/" in key else key for key in keys}
    after = {
        name for name in names if (_sort_key(name, server) > start if server == "SeaweedFS" else _reaches(name, start))
    }
    entries = sorted(after, key=lambda name: (_sort_key(name, server), name))
    size_of_page = cycle(sizes)

    def get_page(token: str | None) -> ListingPage:
        begin = 0 if token is None else int(token)
        end = begin + next(size_of_page)
        names = entries[begin:end]
        objects = [ObjectInfo(name, f"etag of {name}", 1, "") for name in names if not name.endswith("/")]
        folders = [name for name in names if name.endswith("/")]
        return ListingPage(objects, folders, str(end) if end < len(entries) else None)

    return get_page


def _sort_key(name: str, server: str) -> str:
    """Return the sort key of an entry: SeaweedFS sorts a folder by its name without the slash."""
    return name.removesuffix("/") if server == "SeaweedFS" else name


def _reaches(name: str, start: str) -> bool:
    """Whether S3 lists an entry after `start`. It lists a folder if a key in it may sort after `start`."""
    return name > start or (name.endswith("/") and start.startswith(name))


class InMemoryObjects:
    """A bucket in memory, for look-ups of single keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def list_page(self, bucket: str, *, prefix: str, limit: int) -> ListingPage:
        names = [key for key in self._keys if key.startswith(prefix) and "/" not in key][:limit]
        return ListingPage([ObjectInfo(name, f"etag of {name}", 1, "") for name in names], [], None)


def list_segment(
    keys: Sequence[str], start: str, end: str, sizes: Sequence[int], server: str, is_full: Callable[[int], bool]
) -> Listing:
    """List a segment as a scan does."""
    listing = list_range(pages(keys, start, sizes, server), start, end, is_full)
    objects: Any = InMemoryObjects(keys)
    for info in list_photos_after(objects, "src", start, listing.cut_at or end):
        listing.add(info)
    return listing


def segments(keys: Sequence[str], sizes: Sequence[int], server: str) -> Iterator[tuple[str, str, Listing]]:
    """List the whole bucket in segments. Each is full after its first page."""
    start = ""
    while True:
        listing = list_segment(keys, start, LAST_KEY, sizes, server, lambda _: True)
        yield start, listing.cut_at or LAST_KEY, listing
        if listing.cut_at is None:
            return
        assert listing.cut_at > start
        start = listing.cut_at


def contents(*listings: Listing) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[str]]:
    """Return the CSVs, photos and rejected objects of all listings, with duplicates."""
    csvs = [item for listing in listings for item in listing.csvs.items()]
    photos = [item for listing in listings for item in listing.photos.items()]
    return csvs, photos, [rejection.object for listing in listings for rejection in listing.rejections]


@given(KEY_SETS, PAGE_SIZES, SERVERS)
def test_the_segments_together_cover_the_bucket(keys: list[str], sizes: list[int], server: str) -> None:
    complete = list_range(pages(keys, "", [1000], server), "", LAST_KEY, lambda _: False)
    parts = list(segments(keys, sizes, server))
    assert contents(*(listing for _, _, listing in parts)) == contents(complete)
    again = [list_segment(keys, start, end, sizes, server, lambda _: False) for start, end, _ in parts]
    assert contents(*again) == contents(complete)
    assert not any(listing.cut_at for listing in again)
    if not any("/" in key for key in keys):  # a folder at a segment's boundary may be counted twice or not at all
        assert sum(listing.entries for listing in again) == complete.entries
        assert sum(listing.ignored for listing in again) == complete.ignored


@given(KEY_SETS, PAGE_SIZES, SERVERS)
# The first segment ends at "1" and is empty, the second at 1.csv, the third at 1.d, before the photo.
@example(["1.csv", "1.d", "1.e", "1.png"], [1], "S3")
def test_all_keys_of_a_user_are_in_one_segment(keys: list[str], sizes: list[int], server: str) -> None:
    parts = list(segments(keys, sizes, server))
    assert [end for _, end, _ in parts[:-1]] == [start for start, *_ in parts[1:]]
    for start, end, listing in parts:
        for user_id in listing.csvs.keys() | listing.photos.keys():
            assert start < f"{user_id}.csv" <= end


@given(KEY_SETS, PAGE_SIZES, st.integers(1, 20))
def test_a_segment_ends_with_the_page_that_fills_it(keys: list[str], sizes: list[int], capacity: int) -> None:
    """Unrelated keys between the keys of a user do not change this."""
    listing = list_range(pages(keys, "", sizes), "", LAST_KEY, lambda count: count >= capacity)
    assert listing.entries - listing.folders <= capacity - 1 + max(sizes)
    # is_full does not yet count the folders of the current page
    assert listing.entries <= capacity - 1 + 2 * max(sizes)
    assert listing.cut_at is None or is_representable(listing.cut_at)


def test_a_segment_that_is_not_full_is_not_split() -> None:
    keys = [f"{number}.csv" for number in range(10)]
    counts: list[int] = []

    def is_full(count: int) -> bool:
        counts.append(count)
        return False

    listing = list_range(pages(keys, "", [3]), "", LAST_KEY, is_full)
    assert (listing.cut_at, listing.entries, counts) == (None, 10, [3, 6, 9])


def test_the_preferred_photo_is_png_then_jpg_then_jpeg() -> None:
    keys = ["1.jpeg", "1.jpg", "1.png", "2.jpeg", "2.jpg", "3.jpeg"]
    listing = list_range(pages(keys, "", [2]), "", LAST_KEY, lambda _: False)
    assert listing.photos == {"1": "1.png", "2": "2.jpg", "3": "3.jpeg"}


@pytest.mark.parametrize("key", ["\udcff.csv", "a\0.csv"])
def test_a_segment_does_not_end_at_an_unrepresentable_key(key: str) -> None:
    listing = list_range(pages(["1.csv", key], "", [1]), "", LAST_KEY, lambda _: True)
    # the page ends at 1.csv, but a boundary before the user's keys is preferred
    assert (listing.cut_at, listing.entries, listing.ignored, listing.rejections) == ("1", 0, 0, [])
    listing = list_range(pages(["1.csv", key], "1", [1]), "1", LAST_KEY, lambda _: True)
    # that boundary is the start now, so this segment ends at 1.csv
    assert (listing.cut_at, listing.csvs) == ("1.csv", {"1": "etag of 1.csv"})
    listing = list_range(pages(["1.csv", key, "😀"], "1.csv", [1]), "1.csv", LAST_KEY, lambda _: True)
    assert (listing.cut_at, listing.entries, listing.ignored, listing.rejections) == (None, 2, 2, [])


def test_folders_outside_the_range_do_not_count() -> None:
    listing = list_range(pages(["1.csv", "2/a", "8/a"], "", [10]), "", "5", lambda _: False)
    assert (listing.entries, listing.folders, listing.ignored) == (2, 1, 1)


@pytest.mark.parametrize(("size", "is_accepted"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_a_csv_larger_than_64_kib_is_rejected_by_its_listed_size(size: int, is_accepted: bool) -> None:
    listing = Listing()
    listing.add(ObjectInfo("1.csv", "e", size, ""))
    assert listing.csvs == ({"1": "e"} if is_accepted else {})
    assert [(rejection.object, rejection.etag, rejection.code) for rejection in listing.rejections] == (
        [] if is_accepted else [("1.csv", "e", "too_large")]
    )


def test_a_csv_with_a_bad_name_is_rejected_with_its_etag() -> None:
    listing = Listing()
    listing.add(ObjectInfo("x.csv", "e", 1, ""))
    [rejection] = listing.rejections
    assert (rejection.object, rejection.etag, rejection.line, rejection.code) == ("x.csv", "e", None, "bad_name")
