"""Parses CSVs as process-data does, without a bucket."""

from collections.abc import Iterable
from datetime import UTC, datetime

from process_data.parse import CheckResult, Row, check_rows, read_row
from process_data.rejections import Rejection
from process_data.shared.storage.objects import Object

MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def parse(files: Iterable[tuple[str, bytes]], now: int) -> CheckResult:
    """Parse a batch of keys and bodies. `now` is in milliseconds since 1970-01-01 UTC."""
    items = [read_row(key, Object(body, "etag", MODIFIED)) for key, body in files]
    checked = check_rows([item for item in items if isinstance(item, Row)], now)
    return CheckResult(checked.valid, [item for item in items if isinstance(item, Rejection)] + checked.rejections)
