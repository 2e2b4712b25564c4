"""A listing that is none, or that breaks off, is an error: what it lacks must not be taken for removed."""

import pytest
from process_data.shared.storage.errors import Unavailable
from process_data.shared.storage.objects import _next_page, _parse_page

PAGE = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
    b"<IsTruncated>%s</IsTruncated>%s<Contents><Key>a%%2Bb%%FF.csv</Key><ETag>&#34;e&#34;</ETag><Size>5</Size>"
    b"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
    b"<CommonPrefixes><Prefix>f/</Prefix></CommonPrefixes></ListBucketResult>"
)


def test_a_page_is_read() -> None:
    page, truncated = _parse_page(PAGE % (b"false", b""))
    assert [tuple(item) for item in page.objects] == [("a+b\\xff.csv", "e", 5)]
    assert (page.folders, truncated) == (1, False)


def test_the_token_of_the_next_page_is_found() -> None:
    token = b"<NextContinuationToken>a&amp;b</NextContinuationToken>"
    assert _next_page(PAGE % (b"true", token)) == "a&b"
    assert _parse_page(PAGE % (b"true", token))[1]
    assert _next_page(PAGE % (b"false", b"")) is None


@pytest.mark.parametrize("xml", [b"<html></html>", b"<ListBucketResult></ListBucketResult>"])
def test_anything_else_is_no_listing(xml: bytes) -> None:
    with pytest.raises(Unavailable, match="no listing"):
        _parse_page(xml)
