"""CSVs read and checked as process-data does it, without a bucket."""

from collections.abc import Iterable
from datetime import UTC, datetime

from process_data.parse import Checked, Row, check_rows, read_row
from process_data.rejections import Rejection
from process_data.shared.storage.objects import Object

MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def parse(files: Iterable[tuple[str, bytes]], now: int) -> Checked:
    """What a batch of keys and bodies gives at a moment, in milliseconds UTC."""
    read = [read_row(key, Object(body, "etag", MODIFIED)) for key, body in files]
    checked = check_rows([item for item in read if isinstance(item, Row)], now)
    return Checked(checked.valid, [item for item in read if isinstance(item, Rejection)] + checked.rejections)
